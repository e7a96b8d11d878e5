package config

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Access is who may come in and what they may do, under upstream's names.
type Access struct {
	ClientCA      string `json:"clientCAFile" flag:"client-ca-file" usage:"PEM file of further authorities for client certificates"`
	AnonymousAuth string `json:"anonymousAuth" flag:"anonymous-auth" usage:"whether requests without credentials are served as system:anonymous: true or false"`
	TokenAuthFile string `json:"tokenAuthFile" flag:"token-auth-file" usage:"file of tokens: token,user,uid,\"group1,group2\""`

	AuthenticationConfig         string `json:"authenticationConfig" flag:"authentication-config" usage:"file with an AuthenticationConfiguration: OpenID Connect issuers, anonymous requests"`
	AuthenticationWebhook        string `json:"authenticationTokenWebhookConfigFile" flag:"authentication-token-webhook-config-file" usage:"kubeconfig file of a service that judges tokens"`
	AuthenticationWebhookTTL     string `json:"authenticationTokenWebhookCacheTTL" flag:"authentication-token-webhook-cache-ttl" usage:"how long an answer of that service holds"`
	AuthenticationWebhookVersion string `json:"authenticationTokenWebhookVersion" flag:"authentication-token-webhook-version" usage:"version of TokenReview it speaks: v1 or v1beta1"`

	OIDCIssuer         string   `json:"oidcIssuerURL" flag:"oidc-issuer-url" usage:"OpenID Connect issuer whose tokens are taken"`
	OIDCClientID       string   `json:"oidcClientID" flag:"oidc-client-id" usage:"audience its tokens must be for"`
	OIDCCA             string   `json:"oidcCAFile" flag:"oidc-ca-file" usage:"PEM file of the authority of its server"`
	OIDCUsernameClaim  string   `json:"oidcUsernameClaim" flag:"oidc-username-claim" usage:"claim that is the user name"`
	OIDCUsernamePrefix string   `json:"oidcUsernamePrefix" flag:"oidc-username-prefix" usage:"what precedes user names (default: the issuer and #, unless the claim is email; '-' for nothing)"`
	OIDCGroupsClaim    string   `json:"oidcGroupsClaim" flag:"oidc-groups-claim" usage:"claim that holds the groups"`
	OIDCGroupsPrefix   string   `json:"oidcGroupsPrefix" flag:"oidc-groups-prefix" usage:"what precedes groups"`
	OIDCRequired       []string `json:"oidcRequiredClaim" flag:"oidc-required-claim" usage:"claim that a token must have, key=value"`
	OIDCSigningAlgs    []string `json:"oidcSigningAlgs" flag:"oidc-signing-algs" usage:"algorithms by which tokens may be signed"`

	AuthorizationModes          []string `json:"authorizationMode" flag:"authorization-mode" usage:"who decides, in order: Node, RBAC, Webhook, ABAC, AlwaysAllow, AlwaysDeny"`
	AuthorizationConfig         string   `json:"authorizationConfig" flag:"authorization-config" usage:"file with an AuthorizationConfiguration instead"`
	AuthorizationPolicy         string   `json:"authorizationPolicyFile" flag:"authorization-policy-file" usage:"file of policies for the mode ABAC, a JSON object on each line"`
	AuthorizationWebhook        string   `json:"authorizationWebhookConfigFile" flag:"authorization-webhook-config-file" usage:"kubeconfig file of a service that decides"`
	AuthorizationWebhookVersion string   `json:"authorizationWebhookVersion" flag:"authorization-webhook-version" usage:"version of SubjectAccessReview it speaks: v1 or v1beta1"`
	AuthorizationAllowTTL       string   `json:"authorizationWebhookCacheAuthorizedTTL" flag:"authorization-webhook-cache-authorized-ttl" usage:"how long its yes holds"`
	AuthorizationDenyTTL        string   `json:"authorizationWebhookCacheUnauthorizedTTL" flag:"authorization-webhook-cache-unauthorized-ttl" usage:"how long its no holds"`

	RequestHeaderCA     string   `json:"requestHeaderClientCAFile" flag:"requestheader-client-ca-file" usage:"PEM file of the authority of proxies that say in headers who the user is"`
	RequestHeaderNames  []string `json:"requestHeaderAllowedNames" flag:"requestheader-allowed-names" usage:"common names such a proxy may have (default: any)"`
	RequestHeaderUsers  []string `json:"requestHeaderUsernameHeaders" flag:"requestheader-username-headers" usage:"headers with the user name"`
	RequestHeaderUIDs   []string `json:"requestHeaderUIDHeaders" flag:"requestheader-uid-headers" usage:"headers with the user's uid"`
	RequestHeaderGroups []string `json:"requestHeaderGroupHeaders" flag:"requestheader-group-headers" usage:"headers with the groups"`
	RequestHeaderExtras []string `json:"requestHeaderExtraHeadersPrefix" flag:"requestheader-extra-headers-prefix" usage:"what headers with more about the user begin with"`

	ServiceAccountIssuers    []string `json:"serviceAccountIssuer" flag:"service-account-issuer" usage:"who issues tokens of service accounts; those of the second and further ones are taken as well (default https://kubernetes.default.svc.CLUSTER-DOMAIN)"`
	APIAudiences             []string `json:"apiAudiences" flag:"api-audiences" usage:"audiences of tokens for the API (default: the issuer)"`
	ServiceAccountSigningKey string   `json:"serviceAccountSigningKeyFile" flag:"service-account-signing-key-file" usage:"PEM file of the key that signs tokens of service accounts (default: one of the cluster's own)"`
	ServiceAccountKeys       []string `json:"serviceAccountKeyFile" flag:"service-account-key-file" usage:"PEM file of further keys by which such tokens are verified"`
	ServiceAccountMaxLife    string   `json:"serviceAccountMaxTokenExpiration" flag:"service-account-max-token-expiration" usage:"longest life of a token that may be asked for"`
	LegacyTokenPeriod        string   `json:"legacyServiceAccountTokenCleanUpPeriod" flag:"legacy-service-account-token-clean-up-period" usage:"how long a token in a Secret that its account lists may go unused before it is marked invalid, and then deleted"`
	ServiceAccountJWKSURI    string   `json:"serviceAccountJWKSURI" flag:"service-account-jwks-uri" usage:"where others find the keys (default: at the API itself)"`
}

func defaultAccess() Access {
	return Access{
		AnonymousAuth: "true", AuthenticationWebhookTTL: "2m", AuthenticationWebhookVersion: "v1beta1",
		AuthorizationModes: []string{"Node", "RBAC"}, AuthorizationWebhookVersion: "v1beta1", AuthorizationAllowTTL: "5m", AuthorizationDenyTTL: "30s",
		LegacyTokenPeriod: "8760h",
		OIDCUsernameClaim: "sub", OIDCSigningAlgs: []string{"RS256"},
		RequestHeaderUsers: []string{"X-Remote-User"}, RequestHeaderUIDs: []string{"X-Remote-Uid"},
		RequestHeaderGroups: []string{"X-Remote-Group"}, RequestHeaderExtras: []string{"X-Remote-Extra-"},
	}
}

// accessFiles are the settings that name a file which must be there, by flag.
func (c *Config) accessFiles() map[string]*string {
	files := map[string]*string{
		"client-ca-file":                           &c.ClientCA,
		"token-auth-file":                          &c.TokenAuthFile,
		"authentication-config":                    &c.AuthenticationConfig,
		"authentication-token-webhook-config-file": &c.AuthenticationWebhook,
		"oidc-ca-file":                             &c.OIDCCA,
		"authorization-config":                     &c.AuthorizationConfig,
		"authorization-webhook-config-file":        &c.AuthorizationWebhook,
		"authorization-policy-file":                &c.AuthorizationPolicy,
		"requestheader-client-ca-file":             &c.RequestHeaderCA,
		"service-account-signing-key-file":         &c.ServiceAccountSigningKey,
		"encryption-provider-config":               &c.EncryptionProviderConfig,
		"admission-control-config-file":            &c.AdmissionConfig,
		"audit-policy-file":                        &c.AuditPolicy,
		"tracing-config-file":                      &c.TracingConfig,
		"audit-webhook-config-file":                &c.AuditWebhook,
		"scheduler-config":                         &c.SchedulerConfig,
	}
	for i := range c.ServiceAccountKeys {
		files[fmt.Sprintf("service-account-key-file[%d]", i)] = &c.ServiceAccountKeys[i]
	}
	return files
}

// accessDurations are the settings that are a time, by flag.
func (c *Config) accessDurations() map[string]*string {
	return map[string]*string{
		"audit-webhook-batch-max-wait":  &c.AuditWebhookBatchWait,
		"audit-webhook-initial-backoff": &c.AuditWebhookBackoff,

		"authentication-token-webhook-cache-ttl": &c.AuthenticationWebhookTTL,
		"service-account-max-token-expiration":   &c.ServiceAccountMaxLife,

		"legacy-service-account-token-clean-up-period": &c.LegacyTokenPeriod,

		"authorization-webhook-cache-authorized-ttl":   &c.AuthorizationAllowTTL,
		"authorization-webhook-cache-unauthorized-ttl": &c.AuthorizationDenyTTL,
	}
}

// Duration is a setting that is a time and was validated; 0 when it is empty.
func (*Config) Duration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0
	}
	return d
}

// completeAccess makes paths absolute: 'up' starts a server that runs elsewhere.
func (c *Config) completeAccess() {
	paths := c.accessFiles()
	if c.AuditLog != "off" && c.AuditLog != "-" {
		paths["audit-log-path"] = &c.AuditLog
	}
	for _, p := range paths {
		if *p == "" {
			continue
		}
		if abs, err := filepath.Abs(*p); err == nil {
			*p = abs
		}
	}
}

func (c *Config) validateAccess(bad func(flag, format string, args ...any)) {
	for flag, p := range c.accessFiles() {
		if *p == "" {
			continue
		}
		if _, err := os.Stat(*p); err != nil {
			bad(flag, "%v", err)
		}
	}
	for flag, p := range c.accessDurations() {
		if d, err := time.ParseDuration(*p); *p != "" && (err != nil || d < 0) {
			bad(flag, "%q is not a time such as 30s", *p)
		}
	}
	c.validateAuthentication(bad)
	for sort, t := range map[string]struct {
		on           bool
		event, batch int
	}{
		"log":     {c.AuditLogTruncate, c.AuditLogTruncateEvent, c.AuditLogTruncateBatch},
		"webhook": {c.AuditWebhookTruncate, c.AuditWebhookTruncateEvent, c.AuditWebhookTruncateBatch},
	} {
		if t.on && (t.event <= 0 || t.batch < t.event) {
			bad("audit-"+sort+"-truncate-max-event-size", "it must be a positive number, and no more than --audit-%s-truncate-max-batch-size", sort)
		}
	}
	if c.AuditLogFormat != "json" && c.AuditLogFormat != "legacy" {
		bad("audit-log-format", "%q must be json or legacy", c.AuditLogFormat)
	}
	for flag, n := range map[string]int{
		"audit-log-maxsize": c.AuditLogMaxSize, "audit-log-maxbackup": c.AuditLogMaxBackup, "audit-log-maxage": c.AuditLogMaxAge,
		"audit-webhook-batch-max-size": c.AuditWebhookBatchSize, "audit-webhook-batch-buffer-size": c.AuditWebhookBuffer,
	} {
		if n < 0 {
			bad(flag, "%d must not be negative", n)
		}
	}
}

func (c *Config) validateAuthentication(bad func(flag, format string, args ...any)) {
	if c.AnonymousAuth != "true" && c.AnonymousAuth != "false" {
		bad("anonymous-auth", "%q must be true or false", c.AnonymousAuth)
	}
	if v := c.AuthenticationWebhookVersion; v != "v1" && v != "v1beta1" {
		bad("authentication-token-webhook-version", "%q must be v1 or v1beta1", v)
	}
	switch {
	case (c.OIDCIssuer == "") != (c.OIDCClientID == ""):
		bad("oidc-issuer-url", "oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set")
	case c.OIDCIssuer == "" && (c.OIDCCA != "" || c.OIDCGroupsClaim != "" || len(c.OIDCRequired) > 0):
		bad("oidc-issuer-url", "oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set")
	case c.OIDCIssuer != "" && c.AuthenticationConfig != "":
		bad("authentication-config", "authentication-config file and oidc-* flags are mutually exclusive")
	}
	webhook := slices.Contains(c.AuthorizationModes, "Webhook")
	switch {
	case c.AuthorizationConfig != "" && (webhook || c.AuthorizationWebhook != ""):
		bad("authorization-config", "it cannot be given together with the webhook of --authorization-mode")
	case webhook != (c.AuthorizationWebhook != ""):
		bad("authorization-webhook-config-file", "it and the mode Webhook of --authorization-mode go together")
	}
	if abac := slices.Contains(c.AuthorizationModes, "ABAC"); c.AuthorizationConfig == "" && abac && c.AuthorizationPolicy == "" {
		bad("authorization-policy-file", "authorization-mode ABAC's authorization policy file not passed")
	} else if c.AuthorizationConfig == "" && !abac && c.AuthorizationPolicy != "" {
		bad("authorization-policy-file", "cannot specify --authorization-policy-file without mode ABAC")
	}
	for _, r := range c.OIDCRequired {
		if k, _, ok := strings.Cut(r, "="); !ok || k == "" {
			bad("oidc-required-claim", "%q must be key=value", r)
		}
	}
	for _, i := range c.ServiceAccountIssuers {
		if i == "" {
			bad("service-account-issuer", "should not be an empty string")
		} else if u, err := url.Parse(i); strings.Contains(i, ":") && (err != nil || u.Scheme == "") {
			bad("service-account-issuer", "%q contained a ':' but was not a valid URL", i)
		}
	}
	if c.LegacyTokenPeriod != "" && c.Duration(c.LegacyTokenPeriod) <= 0 {
		bad("legacy-service-account-token-clean-up-period", "must be more than 0, such as 8760h")
	}
	if d := c.Duration(c.ServiceAccountMaxLife); d != 0 && (d < time.Hour || d > 1<<32*time.Second) {
		bad("service-account-max-token-expiration", "must be between 1 hour and 2^32 seconds")
	}
	if len(c.ServiceAccountKeys) > 0 && c.ServiceAccountSigningKey == "" {
		bad("service-account-key-file", "give --service-account-signing-key-file as well")
	}
}
