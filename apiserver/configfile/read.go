// Package configfile reads the configuration files that Kubernetes defines for
// API servers: EncryptionConfiguration, AuthenticationConfiguration and
// AuthorizationConfiguration of apiserver.config.k8s.io, in every version that
// upstream serves, strictly and with its defaults.
package configfile

import (
	"fmt"
	"os"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/apis/apiserver/install"
)

// Read decodes a file that holds a T: a pointer to one of the types of
// k8s.io/apiserver/pkg/apis/apiserver.
func Read[T runtime.Object](path string) (T, error) {
	var none T
	data, err := os.ReadFile(path)
	if err != nil {
		return none, err
	}
	out, err := Decode[T](data)
	if err != nil {
		return none, fmt.Errorf("cannot read %s: %w", path, err)
	}
	return out, nil
}

// Decode is Read of bytes.
func Decode[T runtime.Object](data []byte) (T, error) {
	var none T
	scheme := runtime.NewScheme()
	install.Install(scheme)
	o, gvk, err := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDecoder().Decode(data, nil, nil)
	if err != nil {
		return none, err
	}
	out, ok := o.(T)
	if !ok {
		return none, fmt.Errorf("it is a %s, which does not belong here", gvk.Kind)
	}
	return out, nil
}
