package compose

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base32"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	goruntime "runtime"
	"strings"
	"sync"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/apiserver/pkg/authentication/user"

	"sagong/apiserver"
	"sagong/apiserver/admission"
	"sagong/apiserver/admission/quota"
	"sagong/apiserver/aggregator"
	"sagong/apiserver/authn"
	"sagong/apiserver/authz"
	"sagong/apiserver/encryption"
	"sagong/apiserver/fairness"
	"sagong/apiserver/resource"
	"sagong/apiserver/reviews"
	"sagong/apiserver/usage"
	"sagong/client"
	"sagong/client/direct"
	"sagong/config"
	"sagong/controller"
	"sagong/controller/cleanup"
	"sagong/controller/identity"
	"sagong/crd"
	"sagong/lib/gather"
	"sagong/lib/progress"
	"sagong/lib/reload"
	"sagong/object"
	"sagong/reconcile"
	"sagong/scheduler"
	"sagong/store"
)

// RunServer runs a server until ctx ends: store, API, controllers, scheduler
// and, unless told otherwise, the agent of this machine's node. Containers
// outlive it.
func RunServer(ctx context.Context, c config.Config, log *slog.Logger, steps *progress.Reporter) (err error) {
	s := &server{cfg: c, log: log, steps: steps}
	defer s.close()
	tuneCollector(ctx)
	if err := s.open(); err != nil {
		return err
	}
	return s.run(ctx)
}

// server is everything in one process.
type server struct {
	cfg   config.Config
	log   *slog.Logger
	steps *progress.Reporter
	// features are what settings switched on.
	features config.Features

	claim    *runDir
	ids      *identities
	cipher   *encryption.Cipher
	trust    *trust // whose certificates are taken
	serving  *servingCerts
	ciphers  []uint16
	accounts *authn.ServiceAccounts

	secretViews []*reconcile.View[*corev1.Secret]
	store       *store.Local
	engine      *resource.Engine
	admission   lateAdmission
	dynamic     *dynamicAdmission
	system      client.Client // reads and writes with the server's own rights
	hub         *reconcile.Hub
	events      *reconcile.Recorder
	rules       *authz.RBAC
	fairness    func(context.Context) error // waits until requests are shared out as configured
	quota       *quota.Ledger
	crds        *crd.Registry
	api         *apiserver.Server
	audit       *auditing
	metrics     *metrics
	http        *http.Server
	listeners   []net.Listener
	node        *node
	parts       *reconcile.Engine
	scheduler   *scheduler.Scheduler

	read      configurations
	files     []*reload.File // that are read again when they change
	reloads   map[string]*reloads
	nodeRules *authz.Node    // nil when nodes are not authorized
	policies  authz.Policies // of the policy file, when it was read

	traces *sdktrace.TracerProvider // nil when nothing is traced

	aggregator *aggregator.Aggregator
}

// lateAdmission lets the engine exist before the rules that read through it.
type lateAdmission struct{ resource.Admission }

// AfterWrite implements resource.AfterWrite.
func (l *lateAdmission) AfterWrite(ctx context.Context, a *resource.Attributes, err error) {
	if w, ok := l.Admission.(resource.AfterWrite); ok {
		w.AfterWrite(ctx, a, err)
	}
}

func (s *server) open() (err error) {
	c := s.cfg
	// It holds Secrets and keys.
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return fmt.Errorf("cannot make the data directory: %w", err)
	}
	// The lock on the store is what keeps a second server off this directory.
	if err = s.openStore(); err != nil {
		return err
	}
	if s.claim, err = claimRunDir(c); err != nil {
		return err
	}
	s.steps.Step("store opened")
	if s.ids, err = loadIdentities(c); err != nil {
		return err
	}
	if err = s.openServing(); err != nil {
		return err
	}
	if err := writeAdminKubeconfig(c, s.ids); err != nil {
		return err
	}
	s.steps.Step("certificates ready")
	if err := s.openAPI(); err != nil {
		return err
	}
	for _, at := range apiAddresses(c) {
		l, err := net.Listen("tcp", at)
		if err != nil {
			return listenError(err, at, "the API", "listen")
		}
		s.listeners = append(s.listeners, l)
	}
	return s.openComponents()
}

// openAPI builds the engine with all that decides about a request.
func (s *server) openAPI() error {
	c := s.cfg
	f, err := c.Features()
	if err != nil {
		return err
	}
	s.features = f
	scheme, fields := object.NewScheme(servedKinds(s.features)...), object.NewFieldManagers()
	s.engine = resource.New(resource.Options{
		Store: s.store, Scheme: scheme, Admission: &s.admission, Log: s.log.With("room", "api"),
		Fields: fields,
	})
	s.system = direct.New(s.engine, &user.DefaultInfo{Name: "system:apiserver", Groups: []string{user.SystemPrivilegedGroup}}, "sagong", nil)
	s.hub = reconcile.NewHub(s.system, s.log)
	s.hub.Hold() // until the API serves
	s.events = reconcile.NewRecorder(s.system, s.log)
	s.rules = authz.NewRBAC(s.hub)
	s.metrics = newMetrics(scheme)
	s.reloads = map[string]*reloads{}
	for _, sort := range []string{"authentication", "authorization", "encryption"} {
		s.reloads[sort] = newReloads(s.metrics.registry, sort, s.identity())
	}
	authorizer, err := s.authorizers()
	if err != nil {
		return err
	}
	accounts, err := s.openAccounts()
	if err != nil {
		return err
	}
	callers, tokens, err := s.authenticators(accounts)
	if err != nil {
		return err
	}
	first, last, err := c.NodePortRange()
	if err != nil {
		return err
	}
	s.dynamic = newDynamicAdmission(s.system, s.hub, authorizer, fields, s.metrics.registry, s.log)
	if err := s.openAdmission(admission.Deps{
		Workloads: s.features.Workloads,
		Client:    s.system, Engine: s.engine, Hub: s.hub, Rules: s.rules, Authorizer: authorizer,
		FirstNodePort: first, LastNodePort: last,
		Mutating: s.dynamic.mutating, Validating: s.dynamic.validating,
	}); err != nil {
		return err
	}
	reviews.Access{Authorizer: authorizer, Rules: authorizer}.Register(s.engine)
	reviews.Tokens{Authenticator: tokens, Accounts: accounts, Client: s.system, Now: time.Now}.Register(s.engine)
	if s.audit, err = openAudit(c, s.log); err != nil {
		return err
	}
	if s.traces, err = openTracing(context.Background(), c.TracingConfig, s.identity()); err != nil {
		return err
	}
	var tracer trace.Tracer // stays nil, which costs nothing
	if s.traces != nil {
		tracer = s.traces.Tracer("sagong/apiserver")
	}
	var fair *fairness.Controller
	fair, s.fairness = newFairness(s.hub, s.metrics)
	s.reloadEncryption()
	discover, describe := s.openKinds(scheme, tracer)
	s.api = apiserver.New(apiserver.Options{
		Engine:        s.engine,
		Authenticator: callers,
		Authorizer:    authorizer, Audit: s.audit.auditor, Metrics: s.metrics, Tracer: tracer, Log: s.log.With("room", "api"), Version: versionInfo(),
		Nodes:     &nodeConnector{name: c.NodeName, local: s.localAgent, client: s.ids.nodeClient, ca: s.ids.ca},
		Discovery: discover,
		Delegate:  s.aggregator.Delegate,
		Fairness:  fair,
	})
	s.metrics.registry.MustRegister(gauges{scheme: scheme, engine: s.engine, hub: s.hub, api: s.api, fairness: fair, dir: storeDir(s.cfg)})
	usage.New(usage.Options{
		Nodes: reconcile.ViewOf[*corev1.Node](s.hub), Pods: reconcile.ViewOf[*corev1.Pod](s.hub), Log: s.log.With("room", "api"),
		Read: func(ctx context.Context, n *corev1.Node) ([]byte, error) {
			return s.api.ReadAgent(ctx, n, "/metrics/resource")
		},
	}).Register(s.engine)
	s.engine.ReadFrom(object.Of[*corev1.ComponentStatus](scheme), components{s.store.Failed})
	s.serveIssuer()
	s.serveEncryption()
	s.api.Handle("/metrics", s.metrics.handler())
	s.api.Handle("/metrics/slis", s.metrics.slis())
	s.api.Handle("/metrics/resources", podResources{reconcile.ViewOf[*corev1.Pod](s.hub).Each}.handler())
	s.servePages(time.Now())
	for _, path := range []string{"/openapi/v2", "/openapi/v3", "/openapi/v3/"} {
		s.api.Handle(path, s.aggregator.OpenAPI(describe))
	}
	for _, name := range []string{"store", "etcd"} { // the name that monitoring knows
		s.api.AddCheck(apiserver.Check{Name: name, For: apiserver.Readyz, Check: func(context.Context) error { return s.store.Failed() }})
	}
	return nil
}

// identity is the name of this server among several, as upstream makes it: it
// stays the same when the server restarts.
func (s *server) identity() string {
	sum := sha256.Sum256([]byte(s.cfg.NodeName))
	return "apiserver-" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:16]))
}

// localAgent serves what the agent of this machine's node does; nil without one.
func (s *server) localAgent() http.Handler {
	if s.node == nil {
		return nil
	}
	return s.node.handler
}

func versionInfo() version.Info {
	return version.Info{
		Major: "1", Minor: "37", GitVersion: config.KubernetesVersion + "+sagong", GitCommit: config.GitCommit(), GitTreeState: "clean",
		EmulationMajor: "1", EmulationMinor: "37", MinCompatibilityMajor: "1", MinCompatibilityMinor: "36", BuildDate: "1970-01-01T00:00:00Z",
		GoVersion: goruntime.Version(), Compiler: goruntime.Compiler, Platform: goruntime.GOOS + "/" + goruntime.GOARCH,
	}
}

// openComponents builds what follows the API.
func (s *server) openComponents() error {
	c := s.cfg
	as := func(name string) client.Client {
		return direct.New(s.engine, &user.DefaultInfo{Name: "system:" + name, Groups: []string{user.SystemPrivilegedGroup}}, name, nil)
	}
	list, err := controller.All(controller.Deps{
		Workloads: s.features.Workloads,
		Hub:       s.hub, Events: s.events, Log: s.log.With("room", "controller"),
		ClusterCIDR: netip.MustParsePrefix(c.ClusterCIDR), NodeCIDRBits: c.NodeMaskSize, RootCA: s.ids.ca.CertPEM,
		ServiceCIDR: netip.MustParsePrefix(c.ServiceCIDR),
		ReadAPI:     s.readMetricsAPI, Metrics: s.metrics.registry,
		EmptyElsewhere: func(ctx context.Context, namespace string) cleanup.Elsewhere {
			return cleanup.Elsewhere(s.aggregator.Empty(ctx, namespace))
		},
	})
	if err != nil {
		return err
	}
	list = append(list, s.quota.Controller(), s.aggregator.Registration(), s.aggregator.Availability(), crd.NewController(s.hub, s.crds), identity.NewCertificates(s.hub, s.ids.ca, s.ids.api, s.log.With("room", "controller"), time.Now),
		identity.NewPodCertificateCleaner(s.hub, time.Now))
	list = append(list, s.dynamic.controllers(s.hub)...)
	list = append(list, s.tokenControllers()...)
	list = append(list, &authorityKeeper{s, reconcile.ViewOf[*corev1.ConfigMap](s.hub)})
	s.parts = reconcile.NewEngine(as("kube-controller-manager"), s.log.With("room", "controller"), s.metrics.queues)
	if err := s.parts.Add(list...); err != nil {
		return err
	}
	scheduling, err := schedulerConfiguration(c, s.log)
	if err != nil {
		return err
	}
	s.scheduler, err = scheduler.New(scheduler.Config{
		Groups:  s.features.Workloads,
		Metrics: scheduler.NewMetrics(s.metrics.registry),
		Client:  as("kube-scheduler"), Hub: s.hub, Log: s.log.With("room", "scheduler"), Configuration: scheduling,
		Recorder: func(profile string) client.Recorder { return s.events.For(profile, "") },
	})
	if err != nil {
		return err
	}
	if c.NoAgent {
		return nil
	}
	s.node, err = openNode(c, factsOf(c), as("kubelet"), s.hub, s.events, newRegistry(), s.log)
	return err
}

// run serves until ctx ends or a part fails, then stops in reverse order.
func (s *server) run(ctx context.Context) error {
	// Parts stop before the API does, so that their last writes get through.
	work, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	var views, parts, serving sync.WaitGroup
	viewCtx, stopViews := context.WithCancel(context.WithoutCancel(ctx))
	defer stopViews()
	part := func(name string, f func(context.Context) error) {
		parts.Go(func() {
			if err := f(work); err != nil && work.Err() == nil {
				stop(fmt.Errorf("%s ended: %w", name, err))
			}
		})
	}
	for name, f := range map[string]func(context.Context) error{"views": s.hub.Run, "events": s.events.Run} {
		views.Go(func() {
			if err := f(viewCtx); err != nil && viewCtx.Err() == nil {
				stop(fmt.Errorf("%s ended: %w", name, err))
			}
		})
	}
	if err := bootstrap(ctx, s.engine, s.system, s.cfg); err != nil {
		stopViews()
		views.Wait()
		return err
	}
	// What decides about requests. It is little, and has the processors to itself.
	if err := errors.Join(s.rules.Synced(ctx), s.dynamic.synced(ctx), s.fairness(ctx), s.quota.Synced(ctx), s.crds.Synced(ctx),
		s.aggregator.Synced(ctx), s.publishAuthorities(ctx)); err != nil {
		stopViews()
		views.Wait()
		return err
	}
	s.serve(&serving, stop)
	s.steps.Step("API serves on %s", s.listeners[len(s.listeners)-1].Addr())
	part("views of what is stored", s.releaseViews)
	part("encryption", s.cipher.Run)
	part("configuration files", func(ctx context.Context) error { return reload.Run(ctx, s.files) })
	part("encryption of what is stored", s.sealStale)
	for _, v := range s.secretViews {
		part("tokens in Secrets", v.Run)
	}
	part("cluster-info", s.publishClusterInfo)
	part("tokens in Secrets", s.trackLegacyTokens)
	part("controllers", s.parts.Run)
	part("scheduler", s.scheduler.Run)
	if s.node != nil {
		part("node", s.node.run)
		part("node's port", func(ctx context.Context) error {
			return s.node.serveTLS(ctx, s.ids.ca.Pool(), s.ids.nodeServing.GetCertificate)
		})
		part("start", s.announce)
	} else {
		s.steps.Done("server ready, without a node")
	}
	select {
	case <-ctx.Done():
		s.log.Info("stopping")
		stop(nil)
	case <-work.Done():
	}
	err := context.Cause(work)
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	parts.Wait()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), config.ShutdownTime)
	defer cancel()
	if serr := s.api.Shutdown(grace); serr != nil {
		s.log.Warn("requests were cut off", "err", serr)
	}
	if serr := s.http.Shutdown(grace); serr != nil {
		s.http.Close()
	}
	serving.Wait()
	stopViews()
	views.Wait()
	return err
}

// releaseViews lets the views of controllers and scheduler fill. Each of these
// acts once those it reads are complete; `sagong status` and the metrics name
// what is not.
func (s *server) releaseViews(ctx context.Context) error {
	begin := time.Now()
	if err := s.hub.Release(ctx, func(d *object.Definition) int64 {
		n, _ := s.engine.Count(ctx, d) // fails with ctx alone
		return n
	}); err != nil {
		return err
	}
	s.log.Info("all views are complete", "took", time.Since(begin))
	return nil
}

// apiHTTP is how HTTP is spoken with whoever comes: a client may keep a connection
// for a while without asking anything, but not begin a request and dawdle.
func apiHTTP(h http.Handler, log *slog.Logger) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	return &http.Server{
		Handler: h, Protocols: protocols,
		ReadHeaderTimeout: 32 * time.Second, IdleTimeout: 90 * time.Second, MaxHeaderBytes: 1 << 20,
		HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: 1000, MaxReadFrameSize: 1 << 20},
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// serve accepts connections on every listener.
func (s *server) serve(wg *sync.WaitGroup, stop context.CancelCauseFunc) {
	conf := &tls.Config{
		MinVersion: s.cfg.MinVersion(), CipherSuites: s.ciphers, GetCertificate: s.serving.GetCertificate, NextProtos: []string{"h2", "http/1.1"},
		ClientAuth: tls.RequestClientCert,
		// Short first records help pages on slow lines; answers of 5 KB would be
		// four records.
		DynamicRecordSizingDisabled: true,
	}
	conf.GetConfigForClient = s.trust.serving(conf.Clone())
	s.http = apiHTTP(s.api, s.log)
	s.http.TLSConfig = conf
	for _, l := range s.listeners {
		wg.Go(func() {
			if err := s.http.ServeTLS(gather.Listener(l), "", ""); !errors.Is(err, http.ErrServerClosed) {
				stop(fmt.Errorf("cannot go on serving %s: %w", l.Addr(), err))
			}
		})
	}
}

// announce reports when the node is Ready: the end of the start.
func (s *server) announce(ctx context.Context) error {
	// After a restart the stored node is Ready already: what counts is that its
	// agent has taken over what runs.
	if err := s.node.agent.Adopted(ctx); err != nil {
		return err
	}
	if err := nodeReady(ctx, s.hub, s.log, s.cfg.NodeName); err != nil {
		return err
	}
	s.steps.Done("node %s ready", s.cfg.NodeName)
	s.log.Info("node ready", "node", s.cfg.NodeName)
	return nil
}

func (s *server) close() {
	if s.node != nil {
		s.node.close()
	}
	for _, l := range s.listeners {
		l.Close()
	}
	if s.audit != nil {
		s.audit.close()
	}
	if s.traces != nil {
		closeTracing(s.traces)
	}
	if s.store != nil {
		if err := s.store.Close(); err != nil {
			s.log.Error("cannot close the store", "err", err)
		}
	}
	if s.cipher != nil {
		s.cipher.Close()
	}
	if s.claim != nil {
		s.claim.release()
	}
}
