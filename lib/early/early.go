// Package early sets what must be set before kubectl's packages start. They
// translate their help texts while they start, in every process of this binary,
// a container's included; loading the catalogue takes longer than all else a
// process does before main.
package early

import (
	"os"
	"slices"
	"strings"

	"k8s.io/kubectl/pkg/util/i18n"
)

// Late is why this package started too late; nil when it did not.
var Late error

// init is the only place from which kubectl lets this be set.
func init() {
	Late = i18n.SetLoadTranslationsFunc(func() error {
		if !wanted(os.Args, os.Getenv) {
			return nil
		}
		return i18n.LoadTranslations("kubectl", nil)
	})
}

// wanted reports whether texts are shown in a language other than English. The
// English catalogue maps every text to itself, so it is not needed.
func wanted(args []string, getenv func(string) string) bool {
	if !slices.Contains(args, "kubectl") {
		return false
	}
	for _, key := range []string{"LC_ALL", "LC_MESSAGES", "LANG"} {
		if v := getenv(key); v != "" {
			name, _, found := strings.Cut(v, ".")
			return found && name != "en_US" && name != "C"
		}
	}
	return false
}
