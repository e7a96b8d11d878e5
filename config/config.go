// Package config holds every setting of a Sagong process in one struct. The
// same settings can be given as flags (--data-dir), as environment variables
// (SAGONG_DATA_DIR) and in a YAML file (dataDir); flags win over the
// environment, the environment over the file, the file over the defaults.
package config

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// DefaultName is the cluster that verbs act on when none is named.
const DefaultName = "sagong"

// Config is the settings of a server or an agent. Its tags are the single
// source of flags, environment variables and YAML keys: see Settings.
type Config struct {
	Name     string `json:"name" flag:"name" usage:"name of the cluster on this machine; clusters with different names live side by side"`
	DataDir  string `json:"dataDir" flag:"data-dir" usage:"directory for everything that must survive (default /var/lib/sagong, or /var/lib/sagong-NAME)"`
	RunDir   string `json:"runDir" flag:"run-dir" usage:"directory for what lives as long as the machine is up (default /run/sagong, or /run/sagong-NAME)"`
	NodeName string `json:"nodeName" flag:"node-name" usage:"name of this machine's node (default: the host name)"`
	NodeIP   string `json:"nodeIP" flag:"node-ip" usage:"address other nodes and pods reach this machine at (default: that of the default route)"`

	Listen        string   `json:"listen" flag:"listen" usage:"address and port of the API; it is served on loopback as well (default NODE-IP:6443)"`
	TLSNames      []string `json:"tlsNames" flag:"tls-name" usage:"further host names and addresses in the API's certificate"`
	ClusterCIDR   string   `json:"clusterCIDR" flag:"cluster-cidr" usage:"addresses of pods"`
	NodeMaskSize  int      `json:"nodeMaskSize" flag:"node-mask-size" usage:"prefix length of the part of the pod addresses that each node gets"`
	ServiceCIDR   string   `json:"serviceCIDR" flag:"service-cidr" usage:"addresses of Services"`
	ClusterDNS    string   `json:"clusterDNS" flag:"cluster-dns" usage:"address of the cluster's DNS server (default: the tenth of the Service addresses)"`
	ClusterDomain string   `json:"clusterDomain" flag:"cluster-domain" usage:"DNS domain of the cluster"`
	NodePorts     string   `json:"nodePorts" flag:"node-ports" usage:"range of ports for Services of type NodePort"`

	SchedulerConfig string `json:"schedulerConfig" flag:"scheduler-config" usage:"file with a KubeSchedulerConfiguration (kubescheduler.config.k8s.io/v1): profiles, rules, weights"`

	NoAgent     bool     `json:"noAgent" flag:"no-agent" usage:"serve the API without running pods on this machine"`
	KubeletPort int      `json:"kubeletPort" flag:"kubelet-port" usage:"port on which a node serves logs and exec to the API server"`
	MaxPods     int      `json:"maxPods" flag:"max-pods" usage:"how many pods this node takes"`
	NodeLabels  []string `json:"nodeLabels" flag:"node-label" usage:"label for this node when it registers, key=value"`

	Server string `json:"server" flag:"server" usage:"agent: address of the API to join, https://HOST:6443"`
	Token  string `json:"token" flag:"token" usage:"agent: join token, from 'sagong token create'"`
	CAHash string `json:"caHash" flag:"ca-hash" usage:"agent: pin of the cluster's authority, sha256:HEX, from 'sagong token create'"`

	Store   string `json:"store" flag:"store" usage:"where the cluster's state lives: 'embedded'"`
	Runtime string `json:"runtime" flag:"runtime" usage:"what runs containers: 'native'"`

	EncryptionProviderConfig string `json:"encryptionProviderConfig" flag:"encryption-provider-config" usage:"file with an EncryptionConfiguration (default: Secrets are encrypted with a key of the cluster's own)"`
	EncryptionReload         bool   `json:"encryptionProviderConfigAutomaticReload" flag:"encryption-provider-config-automatic-reload" usage:"use that file anew when it changes"`

	FeatureGates  []string `json:"featureGates" flag:"feature-gates" usage:"features to switch, as NAME=true; this version has one that is off by default: GenericWorkload"`
	RuntimeConfig []string `json:"runtimeConfig" flag:"runtime-config" usage:"versions of the API to serve besides those that always are, as GROUP/VERSION=true: scheduling.k8s.io/v1beta1"`

	EnableAdmission  []string `json:"enableAdmissionPlugins" flag:"enable-admission-plugins" usage:"admission plugins to run besides those that run by default"`
	DisableAdmission []string `json:"disableAdmissionPlugins" flag:"disable-admission-plugins" usage:"admission plugins not to run"`
	AdmissionConfig  string   `json:"admissionControlConfigFile" flag:"admission-control-config-file" usage:"file with an AdmissionConfiguration: for PodSecurity, ResourceQuota, PodNodeSelector, PodTolerationRestriction, EventRateLimit and ImagePolicyWebhook"`

	AuditLog              string `json:"auditLogPath" flag:"audit-log-path" usage:"file for the audit log, '-' for standard output (default DATA-DIR/audit.log; 'off' for none)"`
	AuditPolicy           string `json:"auditPolicyFile" flag:"audit-policy-file" usage:"file with an audit Policy (default: the metadata of all requests but health checks)"`
	AuditLogFormat        string `json:"auditLogFormat" flag:"audit-log-format" usage:"json or legacy"`
	AuditLogMaxSize       int    `json:"auditLogMaxSize" flag:"audit-log-maxsize" usage:"megabytes at which the audit log is put aside; 0 never"`
	AuditLogMaxBackup     int    `json:"auditLogMaxBackup" flag:"audit-log-maxbackup" usage:"how many audit logs put aside are kept; 0 all"`
	AuditLogMaxAge        int    `json:"auditLogMaxAge" flag:"audit-log-maxage" usage:"days that audit logs put aside are kept; 0 for ever"`
	AuditWebhook          string `json:"auditWebhookConfigFile" flag:"audit-webhook-config-file" usage:"kubeconfig file of a service that receives audit events"`
	AuditWebhookBatchSize int    `json:"auditWebhookBatchMaxSize" flag:"audit-webhook-batch-max-size" usage:"how many audit events one request to the service holds"`
	AuditWebhookBatchWait string `json:"auditWebhookBatchMaxWait" flag:"audit-webhook-batch-max-wait" usage:"how long an audit event waits for others"`
	AuditWebhookBuffer    int    `json:"auditWebhookBatchBufferSize" flag:"audit-webhook-batch-buffer-size" usage:"how many audit events wait for the service before they are dropped"`
	AuditWebhookBackoff   string `json:"auditWebhookInitialBackoff" flag:"audit-webhook-initial-backoff" usage:"time before a request to the service is repeated"`

	AuditLogTruncate          bool `json:"auditLogTruncateEnabled" flag:"audit-log-truncate-enabled" usage:"leave the bodies out of large events in the audit log"`
	AuditLogTruncateEvent     int  `json:"auditLogTruncateMaxEventSize" flag:"audit-log-truncate-max-event-size" usage:"bytes from which on an event in the audit log is large; what is larger without bodies is dropped"`
	AuditLogTruncateBatch     int  `json:"auditLogTruncateMaxBatchSize" flag:"audit-log-truncate-max-batch-size" usage:"bytes of events that are written together; the log is written event by event"`
	AuditWebhookTruncate      bool `json:"auditWebhookTruncateEnabled" flag:"audit-webhook-truncate-enabled" usage:"leave the bodies out of large events that are sent to the service"`
	AuditWebhookTruncateEvent int  `json:"auditWebhookTruncateMaxEventSize" flag:"audit-webhook-truncate-max-event-size" usage:"bytes from which on an event for the service is large; what is larger without bodies is dropped"`
	AuditWebhookTruncateBatch int  `json:"auditWebhookTruncateMaxBatchSize" flag:"audit-webhook-truncate-max-batch-size" usage:"bytes of events that one request to the service holds at most"`

	TracingConfig string `json:"tracingConfigFile" flag:"tracing-config-file" usage:"file with a TracingConfiguration: where traces of requests go (OTLP over gRPC), and of how many"`

	Access
	Serving

	LogLevel string `json:"logLevel" flag:"log-level" usage:"debug, info, warn or error"`

	Mirrors    []string `json:"mirrors" flag:"mirror" usage:"ask another registry first: registry.example=http://mirror.local:5000"`
	RegistryCA []string `json:"registryCA" flag:"registry-ca" usage:"PEM file of an authority to trust for image registries"`
}

// Defaults are the settings nobody gave. Paths, addresses and names that depend
// on others are filled in by Complete.
func Defaults() Config {
	return Config{
		Name: DefaultName, ClusterCIDR: "10.244.0.0/16", NodeMaskSize: 24, ServiceCIDR: "10.96.0.0/16",
		ClusterDomain: "cluster.local", NodePorts: "30000-32767", KubeletPort: 10250, MaxPods: 110,
		Store: "embedded", Runtime: "native", LogLevel: "info",
		Access:         defaultAccess(),
		AuditLogFormat: "json", AuditLogMaxSize: 64, AuditLogMaxBackup: 4,
		AuditWebhookBatchSize: 400, AuditWebhookBatchWait: "30s", AuditWebhookBuffer: 10_000, AuditWebhookBackoff: "10s",
		AuditLogTruncateEvent: 100 << 10, AuditLogTruncateBatch: 10 << 20, AuditWebhookTruncateEvent: 100 << 10, AuditWebhookTruncateBatch: 10 << 20,
	}
}

// Paths for a cluster name.
func dirName(name string) string {
	if name == DefaultName {
		return "sagong"
	}
	return "sagong-" + name
}

// DefaultDataDir is where a named cluster keeps its data.
func DefaultDataDir(name string) string { return filepath.Join("/var/lib", dirName(name)) }

// DefaultRunDir is where a named cluster keeps runtime state.
func DefaultRunDir(name string) string { return filepath.Join("/run", dirName(name)) }

var validName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?$`)

// Complete fills in what follows from other settings and from the machine.
func (c *Config) Complete(hostname string, defaultIP netip.Addr) {
	if c.DataDir == "" {
		c.DataDir = DefaultDataDir(c.Name)
	}
	if c.RunDir == "" {
		c.RunDir = DefaultRunDir(c.Name)
	}
	if c.NodeName == "" {
		c.NodeName = strings.ToLower(hostname)
	}
	if c.NodeIP == "" && defaultIP.IsValid() {
		c.NodeIP = defaultIP.String()
	}
	if c.Listen == "" {
		c.Listen = c.NodeIP + ":6443"
	} else if _, err := strconv.Atoi(c.Listen); err == nil {
		c.Listen = c.NodeIP + ":" + c.Listen
	} else if port, ok := strings.CutPrefix(c.Listen, ":"); ok {
		c.Listen = c.NodeIP + ":" + port
	}
	if c.ClusterDNS == "" {
		if p, err := netip.ParsePrefix(c.ServiceCIDR); err == nil {
			c.ClusterDNS = nth(p, 10).String()
		}
	}
	if c.AuditLog == "" {
		c.AuditLog = filepath.Join(c.DataDir, "audit.log")
	}
	c.completeAccess()
	c.completeServing()
}

// Validate checks a completed Config. Every fault is reported, each naming its
// flag and what would be right.
func (c *Config) Validate() error {
	var errs []error
	bad := func(flag, format string, args ...any) {
		errs = append(errs, fmt.Errorf("--%s: %s", flag, fmt.Sprintf(format, args...)))
	}
	if !validName.MatchString(c.Name) {
		bad("name", "%q must be 1 to 20 lower-case letters, digits or dashes", c.Name)
	}
	for flag, dir := range map[string]string{"data-dir": c.DataDir, "run-dir": c.RunDir} {
		if !filepath.IsAbs(dir) || filepath.Clean(dir) == "/" {
			bad(flag, "%q must be an absolute path other than /", dir)
		}
	}
	if ip, err := netip.ParseAddr(c.NodeIP); err == nil && !ip.Is4() {
		bad("node-ip", "%s is not an IPv4 address; this version has no IPv6", ip)
	} else if err != nil {
		bad("node-ip", "%q is not an address; give the one by which other machines reach this one", c.NodeIP)
	}
	if at, err := netip.ParseAddrPort(c.Listen); err == nil && !at.Addr().Is4() {
		bad("listen", "%s is not an IPv4 address; this version has no IPv6", at)
	} else if err != nil {
		bad("listen", "%q must be ADDRESS:PORT", c.Listen)
	}
	pods, perr := netip.ParsePrefix(c.ClusterCIDR)
	if perr != nil {
		bad("cluster-cidr", "%q must be a prefix such as 10.244.0.0/16", c.ClusterCIDR)
	} else if !pods.Addr().Is4() {
		bad("cluster-cidr", "%s is not IPv4; this version has no IPv6", pods)
	} else if c.NodeMaskSize <= pods.Bits() || c.NodeMaskSize > pods.Addr().BitLen()-2 {
		bad("node-mask-size", "%d must lie between %d and %d", c.NodeMaskSize, pods.Bits()+1, pods.Addr().BitLen()-2)
	}
	services, serr := netip.ParsePrefix(c.ServiceCIDR)
	if serr != nil {
		bad("service-cidr", "%q must be a prefix such as 10.96.0.0/16", c.ServiceCIDR)
	} else if !services.Addr().Is4() {
		bad("service-cidr", "%s is not IPv4; this version has no IPv6", services)
	} else if services.Bits() > 28 || services.Bits() < 8 {
		bad("service-cidr", "%s must be between /8 and /28 long", services)
	}
	if perr == nil && serr == nil && pods.Overlaps(services) {
		bad("service-cidr", "%s overlaps the addresses of pods, %s", services, pods)
	}
	if dns, err := netip.ParseAddr(c.ClusterDNS); err != nil {
		bad("cluster-dns", "%q is not an address", c.ClusterDNS)
	} else if serr == nil && !services.Contains(dns) {
		bad("cluster-dns", "%s is not one of the Service addresses %s", dns, services)
	}
	if _, _, err := c.NodePortRange(); err != nil {
		errs = append(errs, err)
	}
	if c.KubeletPort < 1 || c.KubeletPort > 65535 {
		bad("kubelet-port", "%d is not a port", c.KubeletPort)
	}
	if c.MaxPods < 1 || c.MaxPods > 100_000 {
		bad("max-pods", "%d must lie between 1 and 100000", c.MaxPods)
	}
	c.validateAccess(bad)
	c.validateServing(bad)
	if c.Store != "embedded" {
		bad("store", "%q is not supported yet; 'embedded' is", c.Store)
	}
	if c.Runtime != "native" {
		bad("runtime", "%q is not supported yet; 'native' is", c.Runtime)
	}
	c.validateFeatures(bad)
	switch c.LogLevel {
	case "debug", "info", "warn", "error":
	default:
		bad("log-level", "%q must be debug, info, warn or error", c.LogLevel)
	}
	for _, l := range c.NodeLabels {
		if k, _, ok := strings.Cut(l, "="); !ok || k == "" {
			bad("node-label", "%q must be key=value", l)
		}
	}
	for _, m := range c.Mirrors {
		if k, v, ok := strings.Cut(m, "="); !ok || k == "" || v == "" {
			bad("mirror", "%q must be REGISTRY=URL", m)
		}
	}
	for _, f := range c.RegistryCA {
		if _, err := os.Stat(f); err != nil {
			bad("registry-ca", "%v", err)
		}
	}
	return errors.Join(errs...)
}

// NodePortRange returns the first and the last port for NodePort Services.
func (c *Config) NodePortRange() (first, last int, err error) {
	a, b, ok := strings.Cut(c.NodePorts, "-")
	if ok {
		first, err = strconv.Atoi(a)
		if err == nil {
			last, err = strconv.Atoi(b)
		}
	}
	if !ok || err != nil || first < 1 || last > 65535 || first > last {
		return 0, 0, fmt.Errorf("--node-ports: %q must be FIRST-LAST, such as 30000-32767", c.NodePorts)
	}
	return first, last, nil
}

// APIServiceIP is the address of the Service kubernetes.default: the first one.
func (c *Config) APIServiceIP() netip.Addr { return nth(netip.MustParsePrefix(c.ServiceCIDR), 1) }

// nth returns the nth address of a prefix.
func nth(p netip.Prefix, n int) netip.Addr {
	a := p.Masked().Addr()
	for range n {
		a = a.Next()
	}
	return a
}

// ShutdownTime is how long a server may take to finish requests in flight.
const ShutdownTime = 10 * time.Second
