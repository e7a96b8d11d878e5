package compose

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/admission/plugin/resourcequota/apis/resourcequota"
	quotainstall "k8s.io/apiserver/pkg/admission/plugin/resourcequota/apis/resourcequota/install"
	quotavalidation "k8s.io/apiserver/pkg/admission/plugin/resourcequota/apis/resourcequota/validation"
	"k8s.io/apiserver/pkg/apis/apiserver"
	psaconfig "k8s.io/pod-security-admission/admission/api"
	psaload "k8s.io/pod-security-admission/admission/api/load"
	"sigs.k8s.io/yaml"

	"sagong/apiserver/admission"
	"sagong/apiserver/configfile"
)

// admissionConfig is what --admission-control-config-file says to those rules
// that have something to configure; nil where it says nothing.
type admissionConfig struct {
	podSecurity   *psaconfig.PodSecurityConfiguration
	quota         *resourcequota.Configuration
	nodeSelectors map[string]string
	tolerations   admission.TolerationRules
	events        []admission.EventLimit
	images        *admission.ImagePolicy
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
		case "PodNodeSelector":
			var conf struct {
				PodNodeSelectorPluginConfig map[string]string `json:"podNodeSelectorPluginConfig"`
			}
			err = yaml.Unmarshal(data, &conf)
			c.nodeSelectors = conf.PodNodeSelectorPluginConfig
		case "PodTolerationRestriction":
			err = readPluginConfig(data, "podtolerationrestriction.admission.k8s.io", &c.tolerations)
		case "EventRateLimit":
			var conf struct {
				Limits []admission.EventLimit `json:"limits"`
			}
			if err = readPluginConfig(data, "eventratelimit.admission.k8s.io", &conf); err == nil {
				c.events, err = conf.Limits, admission.ValidateEventLimits(conf.Limits).ToAggregate()
			}
		case "ImagePolicyWebhook":
			c.images, err = admission.NewImagePolicy(data)
		default:
			err = errors.New("this admission plugin has no configuration here")
		}
		if err != nil {
			return fail(fmt.Errorf("plugin %q: %w", p.Name, err))
		}
	}
	return c, nil
}

// readPluginConfig reads a Configuration v1alpha1 of a plugin's own group.
func readPluginConfig(data []byte, group string, into any) error {
	var head struct {
		metav1.TypeMeta `json:",inline"`
	}
	if err := yaml.Unmarshal(data, &head); err != nil {
		return err
	}
	if want := (metav1.TypeMeta{APIVersion: group + "/v1alpha1", Kind: "Configuration"}); head.TypeMeta != want {
		return fmt.Errorf("no kind %q is registered for version %q: it must be a %s of %s", head.Kind, head.APIVersion, want.Kind, want.APIVersion)
	}
	all := map[string]any{}
	if err := yaml.UnmarshalStrict(data, &all); err != nil {
		return err
	}
	delete(all, "apiVersion")
	delete(all, "kind")
	rest, err := json.Marshal(all)
	if err != nil {
		return err
	}
	return yaml.UnmarshalStrict(rest, into)
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
