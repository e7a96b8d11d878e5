package compose

import (
	"fmt"
	"os"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	authorizationcel "k8s.io/apiserver/pkg/authorization/cel"

	"sagong/apiserver/authz"
	"sagong/apiserver/callout"
	"sagong/apiserver/configfile"
)

// authorizationModes are those an authorizer may be of, and of which there may
// be several.
var (
	authorizationModes  = sets.New("ABAC", "AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook")
	repeatableModes     = sets.New("Webhook")
	webhookTimeout      = 30 * time.Second
	failureDecisionsFor = map[string]authorizer.Decision{"": authorizer.DecisionNoOpinion, "NoOpinion": authorizer.DecisionNoOpinion, "Deny": authorizer.DecisionDeny}
)

// authorizers lists who decides, in order; administrators are let through before
// all others.
func (s *server) authorizers() (*authz.Changing, error) {
	conf, err := s.authorizationConfig()
	if err != nil {
		return nil, err
	}
	chain, err := s.authorizerChain(conf)
	if err != nil {
		return nil, err
	}
	changing := &authz.Changing{}
	changing.Set(chain)
	s.reloadAuthorizers(changing, conf)
	return changing, nil
}

func (s *server) authorizerChain(conf *apiserver.AuthorizationConfiguration) (authz.Chain, error) {
	compiler := authorizationcel.NewDefaultCompiler()
	if err := validation.ValidateAuthorizationConfiguration(compiler, nil, conf, authorizationModes, repeatableModes).ToAggregate(); err != nil {
		return nil, fmt.Errorf("cannot use the authorizers: %w", err)
	}
	chain := authz.Chain{{Name: authz.MastersName, Authorizer: authz.Masters{}}}
	for _, a := range conf.Authorizers {
		z, err := s.authorizer(compiler, a)
		if err != nil {
			return nil, fmt.Errorf("cannot use authorizer %s: %w", a.Name, err)
		}
		chain = append(chain, authz.Named{Name: a.Name, Authorizer: z})
	}
	return chain, nil
}

func (s *server) authorizer(compiler authorizationcel.Compiler, a apiserver.AuthorizerConfiguration) (authorizer.UnconditionalAuthorizer, error) {
	switch a.Type {
	case "AlwaysAllow":
		return authz.Always(authorizer.DecisionAllow), nil
	case "AlwaysDeny":
		return authz.Always(authorizer.DecisionNoOpinion), nil
	case "Node":
		if s.nodeRules == nil {
			s.nodeRules = authz.NewNode(s.hub)
		}
		return s.nodeRules, nil
	case "ABAC":
		if s.policies != nil {
			return s.policies, nil
		}
		file := s.cfg.AuthorizationPolicy
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		s.policies, err = authz.ReadPolicies(file, f)
		return s.policies, err
	case "RBAC":
		return s.rules, nil
	default: // as was validated
		return authorizationWebhook(compiler, a.Webhook)
	}
}

// authorizationConfig is that of the file, or what the flags say.
func (s *server) authorizationConfig() (*apiserver.AuthorizationConfiguration, error) {
	c := s.cfg
	if c.AuthorizationConfig != "" {
		data, err := os.ReadFile(c.AuthorizationConfig)
		if err != nil {
			return nil, fmt.Errorf("cannot use --authorization-config: %w", err)
		}
		s.read.authorization = data
		conf, err := configfile.Decode[*apiserver.AuthorizationConfiguration](data)
		if err != nil {
			return nil, fmt.Errorf("cannot use --authorization-config: cannot read %s: %w", c.AuthorizationConfig, err)
		}
		return conf, nil
	}
	conf := &apiserver.AuthorizationConfiguration{}
	for _, mode := range c.AuthorizationModes {
		a := apiserver.AuthorizerConfiguration{Type: apiserver.AuthorizerType(mode), Name: strings.ToLower(mode)}
		if mode == "Webhook" {
			a.Webhook = &apiserver.WebhookConfiguration{
				Timeout:         metav1.Duration{Duration: webhookTimeout},
				AuthorizedTTL:   metav1.Duration{Duration: c.Duration(c.AuthorizationAllowTTL)},
				UnauthorizedTTL: metav1.Duration{Duration: c.Duration(c.AuthorizationDenyTTL)},

				CacheAuthorizedRequests: true, CacheUnauthorizedRequests: true,
				SubjectAccessReviewVersion: c.AuthorizationWebhookVersion, FailurePolicy: apiserver.FailurePolicyNoOpinion,
				ConnectionInfo: apiserver.WebhookConnectionInfo{
					Type: apiserver.AuthorizationWebhookConnectionInfoTypeKubeConfigFile, KubeConfigFile: &c.AuthorizationWebhook,
				},
			}
		}
		conf.Authorizers = append(conf.Authorizers, a)
	}
	return conf, nil
}

func authorizationWebhook(compiler authorizationcel.Compiler, c *apiserver.WebhookConfiguration) (*authz.Webhook, error) {
	w := &authz.Webhook{
		V1beta1: c.SubjectAccessReviewVersion == "v1beta1", Timeout: c.Timeout.Duration, OnFailure: failureDecisionsFor[c.FailurePolicy], Now: time.Now,
	}
	if c.CacheAuthorizedRequests {
		w.AllowTTL = c.AuthorizedTTL.Duration
	}
	if c.CacheUnauthorizedRequests {
		w.DenyTTL = c.UnauthorizedTTL.Duration
	}
	if len(c.MatchConditions) > 0 {
		m, errs := validation.ValidateAndCompileMatchConditions(compiler, c.MatchConditions)
		if err := errs.ToAggregate(); err != nil {
			return nil, err
		}
		w.Matcher = m
	}
	if c.ConnectionInfo.Type != apiserver.AuthorizationWebhookConnectionInfoTypeKubeConfigFile {
		return nil, fmt.Errorf("connectionInfo.type %s is not supported: give a KubeConfigFile", c.ConnectionInfo.Type)
	}
	service, err := callout.Open(*c.ConnectionInfo.KubeConfigFile, c.Timeout.Duration)
	w.Service = service
	return w, err
}
