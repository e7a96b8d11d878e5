package compose

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/admission/plugin/resourcequota/apis/resourcequota"
	quotainstall "k8s.io/apiserver/pkg/admission/plugin/resourcequota/apis/resourcequota/install"
	quotavalidation "k8s.io/apiserver/pkg/admission/plugin/resourcequota/apis/resourcequota/validation"
	"k8s.io/apiserver/pkg/apis/apiserver"
	psaconfig "k8s.io/pod-security-admission/admission/api"
	psaload "k8s.io/pod-security-admission/admission/api/load"

	"sagong/apiserver/configfile"
)

// admissionConfig is what --admission-control-config-file says to those rules
// that have something to configure; nil where it says nothing.
type admissionConfig struct {
	podSecurity *psaconfig.PodSecurityConfiguration
	quota       *resourcequota.Configuration
}

// readAdmissionConfig reads an AdmissionConfiguration. What it holds for rules
// that have nothing to configure is an error.
func readAdmissionConfig(file string) (c admissionConfig, err error) {
	if file == "" {
		return c, nil
	}
	fail := func(err error) (admissionConfig, error) {
		return admissionConfig{}, fmt.Errorf("cannot use --admission-control-config-file: %w", err)
	}
	all, err := configfile.Read[*apiserver.AdmissionConfiguration](file)
	if err != nil {
		return fail(err)
	}
	for _, p := range all.Plugins {
		var data []byte
		switch {
		case p.Configuration != nil:
			data = p.Configuration.Raw
		case p.Path != "":
			path := p.Path
			if !filepath.IsAbs(path) {
				path = filepath.Join(filepath.Dir(file), path)
			}
			if data, err = os.ReadFile(path); err != nil {
				return fail(err)
			}
		}
		switch p.Name {
		case "PodSecurity":
			c.podSecurity, err = psaload.LoadFromData(data)
		case "ResourceQuota":
			c.quota, err = readQuotaConfig(data)
		default:
			err = errors.New("this admission plugin has no configuration here")
		}
		if err != nil {
			return fail(fmt.Errorf("plugin %q: %w", p.Name, err))
		}
	}
	return c, nil
}

func readQuotaConfig(data []byte) (*resourcequota.Configuration, error) {
	scheme := runtime.NewScheme()
	quotainstall.Install(scheme)
	o, err := runtime.Decode(serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDecoder(), data)
	if err != nil {
		return nil, err
	}
	c, ok := o.(*resourcequota.Configuration)
	if !ok {
		return nil, fmt.Errorf("it is a %T, which does not belong here", o)
	}
	return c, quotavalidation.ValidateConfiguration(c).ToAggregate()
}
