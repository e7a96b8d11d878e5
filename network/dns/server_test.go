package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/lib/netlink/nettest"
)

func ptr[T any](v T) *T { return &v }

var dnsAddress = netip.MustParseAddr("10.96.0.10")

// newServer makes a server with names that has no sockets.
func newServer(t testing.TB, cfg Config) *Server {
	t.Helper()
	s := &Server{
		cfg: cfg, index: newIndex(), serial: 7,
		upstreams: &upstreams{path: cfg.ResolvConf, fixed: cfg.Upstreams, own: cfg.Addresses},
		services:  map[string]*known{}, sliceOwner: map[string]string{},
	}
	s.ctx, s.cancel = context.WithCancel(t.Context())
	if s.cfg.Zone == "" {
		s.cfg.Zone = "cluster.local"
	}
	s.cfg.Addresses = []netip.Addr{dnsAddress}
	s.cfg.Ranges = []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("10.244.0.0/16")}
	if err := s.makeZone(); err != nil {
		t.Fatal(err)
	}
	fill(s)
	return s
}

func fill(s interface {
	SetService(*corev1.Service)
	SetEndpointSlice(*discoveryv1.EndpointSlice)
}) {
	meta := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "demo", Name: name} }
	s.SetService(&corev1.Service{ObjectMeta: meta("hello"), Spec: corev1.ServiceSpec{
		ClusterIP: "10.96.0.77", ClusterIPs: []string{"10.96.0.77"},
		Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}},
	}})
	s.SetService(&corev1.Service{ObjectMeta: meta("db"), Spec: corev1.ServiceSpec{
		ClusterIP: "None", ClusterIPs: []string{"None"},
		Ports: []corev1.ServicePort{{Name: "sql", Port: 5432, Protocol: corev1.ProtocolTCP}},
	}})
	s.SetEndpointSlice(&discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "demo", Name: "db-1", Labels: map[string]string{discoveryv1.LabelServiceName: "db"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr("sql"), Port: ptr(int32(5432)), Protocol: ptr(corev1.ProtocolTCP)}},
		Endpoints: []discoveryv1.Endpoint{
			{Addresses: []string{"10.244.1.5"}, Hostname: ptr("db-0")},
			{Addresses: []string{"10.244.1.6"}},
			{Addresses: []string{"10.244.1.7"}, Conditions: discoveryv1.EndpointConditions{Ready: ptr(false)}},
		},
	})
	s.SetService(&corev1.Service{ObjectMeta: meta("empty"), Spec: corev1.ServiceSpec{ClusterIP: "None", ClusterIPs: []string{"None"}}})
	s.SetService(&corev1.Service{ObjectMeta: meta("out"), Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "www.example.com"}})
	s.SetService(&corev1.Service{ObjectMeta: meta("alias"), Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "hello.demo.svc.cluster.local"}})
	s.SetService(&corev1.Service{ObjectMeta: meta("loop"), Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "loop.demo.svc.cluster.local"}})
}

// ask answers as the sockets would.
func (s *Server) ask(t testing.TB, m *miekg.Msg, tcp bool) *miekg.Msg {
	t.Helper()
	p, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	var q question
	answer, what := s.fast(&q, p, nil, tcp)
	if what == detailed || what == foreign {
		answer = s.slow(p, what, tcp)
	}
	var reply miekg.Msg
	if err := reply.Unpack(answer); err != nil {
		t.Fatalf("the answer to %v cannot be read: %v", m.Question, err)
	}
	return &reply
}

// render gives the answer in one line, sorted.
func render(m *miekg.Msg) string {
	line := []string{miekg.RcodeToString[m.Rcode]}
	if m.Truncated {
		line = append(line, "truncated")
	}
	for i, section := range [][]miekg.RR{m.Answer, m.Ns, m.Extra} {
		var rrs []string
		for _, rr := range section {
			if rr.Header().Rrtype == miekg.TypeOPT {
				continue
			}
			rrs = append(rrs, strings.Join(strings.Fields(strings.TrimPrefix(rr.String(), ";")), " "))
		}
		slices.Sort(rrs)
		for _, rr := range rrs {
			line = append(line, []string{"", "+", "~"}[i]+rr)
		}
	}
	return strings.Join(line, " | ")
}

func TestAnswers(t *testing.T) {
	s := newServer(t, Config{Upstreams: []netip.AddrPort{}})
	const soa = "+cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 7 7200 1800 86400 5"
	const reverse = "+in-addr.arpa. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 7 7200 1800 86400 5"
	for _, c := range []struct {
		name string
		typ  uint16
		want string
	}{
		{"hello.demo.svc.cluster.local.", miekg.TypeA, "NOERROR | hello.demo.svc.cluster.local. 5 IN A 10.96.0.77"},
		{"HeLLo.demo.SVC.cluster.LOCAL.", miekg.TypeA, "NOERROR | HeLLo.demo.SVC.cluster.LOCAL. 5 IN A 10.96.0.77"},
		{"hello.demo.svc.cluster.local.", miekg.TypeAAAA, "NOERROR | " + soa},
		{"hello.demo.svc.cluster.local.", miekg.TypeMX, "NOERROR | " + soa},
		{"hello.demo.svc.cluster.local.", miekg.TypeSRV, "NOERROR | hello.demo.svc.cluster.local. 5 IN SRV 0 100 80 hello.demo.svc.cluster.local. | ~hello.demo.svc.cluster.local. 5 IN A 10.96.0.77"},
		{"_http._tcp.hello.demo.svc.cluster.local.", miekg.TypeSRV, "NOERROR | _http._tcp.hello.demo.svc.cluster.local. 5 IN SRV 0 100 80 hello.demo.svc.cluster.local. | ~hello.demo.svc.cluster.local. 5 IN A 10.96.0.77"},
		{"_http._udp.hello.demo.svc.cluster.local.", miekg.TypeSRV, "NXDOMAIN | " + soa},
		{"_tcp.hello.demo.svc.cluster.local.", miekg.TypeSRV, "NOERROR | " + soa},
		{"db.demo.svc.cluster.local.", miekg.TypeA, "NOERROR | db.demo.svc.cluster.local. 5 IN A 10.244.1.5 | db.demo.svc.cluster.local. 5 IN A 10.244.1.6"},
		{"db-0.db.demo.svc.cluster.local.", miekg.TypeA, "NOERROR | db-0.db.demo.svc.cluster.local. 5 IN A 10.244.1.5"},
		{"10-244-1-6.db.demo.svc.cluster.local.", miekg.TypeA, "NOERROR | 10-244-1-6.db.demo.svc.cluster.local. 5 IN A 10.244.1.6"},
		{"10-244-1-7.db.demo.svc.cluster.local.", miekg.TypeA, "NXDOMAIN | " + soa},
		{"_sql._tcp.db.demo.svc.cluster.local.", miekg.TypeSRV, "NOERROR" +
			" | _sql._tcp.db.demo.svc.cluster.local. 5 IN SRV 0 50 5432 10-244-1-6.db.demo.svc.cluster.local." +
			" | _sql._tcp.db.demo.svc.cluster.local. 5 IN SRV 0 50 5432 db-0.db.demo.svc.cluster.local." +
			" | ~10-244-1-6.db.demo.svc.cluster.local. 5 IN A 10.244.1.6 | ~db-0.db.demo.svc.cluster.local. 5 IN A 10.244.1.5"},
		{"empty.demo.svc.cluster.local.", miekg.TypeA, "NOERROR | " + soa},
		{"missing.demo.svc.cluster.local.", miekg.TypeA, "NXDOMAIN | " + soa},
		{"missing.demo.svc.cluster.local.", miekg.TypeTXT, "NXDOMAIN | " + soa},
		{"hello.demo.demo.svc.cluster.local.", miekg.TypeA, "NXDOMAIN | " + soa},
		{"www.example.com.demo.svc.cluster.local.", miekg.TypeA, "NXDOMAIN | " + soa},
		{"www.example.com.cluster.local.", miekg.TypeA, "NXDOMAIN | " + soa},
		{"demo.svc.cluster.local.", miekg.TypeA, "NOERROR | " + soa},
		{"other.svc.cluster.local.", miekg.TypeA, "NXDOMAIN | " + soa},
		{"svc.cluster.local.", miekg.TypeA, "NOERROR | " + soa},
		{"cluster.local.", miekg.TypeA, "NOERROR | " + soa},
		{"cluster.local.", miekg.TypeSOA, "NOERROR | " + soa[1:]},
		{"cluster.local.", miekg.TypeNS, "NOERROR | cluster.local. 5 IN NS ns.dns.cluster.local. | ~ns.dns.cluster.local. 5 IN A 10.96.0.10"},
		{"dns-version.cluster.local.", miekg.TypeTXT, `NOERROR | dns-version.cluster.local. 5 IN TXT "1.1.0"`},
		{"10-244-3-4.demo.pod.cluster.local.", miekg.TypeA, "NOERROR | 10-244-3-4.demo.pod.cluster.local. 5 IN A 10.244.3.4"},
		{"10-244-3-4.demo.pod.cluster.local.", miekg.TypeAAAA, "NOERROR | " + soa},
		{"10-244-3-4.demo.pod.cluster.local.", miekg.TypeTXT, "NOERROR | " + soa},
		{"10-244-3-400.demo.pod.cluster.local.", miekg.TypeA, "NXDOMAIN | " + soa},
		{"x.10-244-3-4.demo.pod.cluster.local.", miekg.TypeA, "NXDOMAIN | " + soa},
		{"77.0.96.10.in-addr.arpa.", miekg.TypePTR, "NOERROR | 77.0.96.10.in-addr.arpa. 5 IN PTR hello.demo.svc.cluster.local."},
		{"5.1.244.10.in-addr.arpa.", miekg.TypePTR, "NOERROR | 5.1.244.10.in-addr.arpa. 5 IN PTR db-0.db.demo.svc.cluster.local."},
		{"78.0.96.10.in-addr.arpa.", miekg.TypePTR, "NXDOMAIN | " + reverse},
		{"alias.demo.svc.cluster.local.", miekg.TypeA, "NOERROR | alias.demo.svc.cluster.local. 5 IN CNAME hello.demo.svc.cluster.local. | hello.demo.svc.cluster.local. 5 IN A 10.96.0.77"},
		{"out.demo.svc.cluster.local.", miekg.TypeCNAME, "NOERROR | out.demo.svc.cluster.local. 5 IN CNAME www.example.com."},
		{"out.demo.svc.cluster.local.", miekg.TypeA, "SERVFAIL | out.demo.svc.cluster.local. 5 IN CNAME www.example.com."},
		{"hello.demo.svc.cluster.local.", miekg.TypeANY, `NOERROR | hello.demo.svc.cluster.local. 5 IN HINFO "RFC8482" ""`},
		{"www.example.com.", miekg.TypeA, "SERVFAIL"},
		{"notcluster.local.", miekg.TypeA, "SERVFAIL"},
		{"8.8.8.8.in-addr.arpa.", miekg.TypePTR, "SERVFAIL"},
		{".", miekg.TypeNS, "SERVFAIL"},
	} {
		for _, edns := range []bool{false, true} {
			for _, tcp := range []bool{false, true} {
				m := new(miekg.Msg).SetQuestion(c.name, c.typ)
				if edns {
					m.SetEdns0(4096, false)
				}
				reply := s.ask(t, m, tcp)
				if got := render(reply); got != c.want {
					t.Errorf("%s %s (EDNS %v, TCP %v)\n got %s\nwant %s", c.name, miekg.TypeToString[c.typ], edns, tcp, got, c.want)
				}
				if reply.Id != m.Id || !reply.Response || !reply.RecursionAvailable || !reply.RecursionDesired {
					t.Errorf("%s: header %v", c.name, reply.MsgHdr)
				}
				if (reply.IsEdns0() != nil) != edns {
					t.Errorf("%s: EDNS in the answer is %v, want %v", c.name, !edns, edns)
				}
				if len(reply.Question) != 1 || reply.Question[0].Name != c.name {
					t.Errorf("%s: question came back as %v", c.name, reply.Question)
				}
			}
		}
	}
	loop := s.ask(t, new(miekg.Msg).SetQuestion("loop.demo.svc.cluster.local.", miekg.TypeA), false)
	if loop.Rcode != miekg.RcodeServerFailure {
		t.Errorf("an alias of itself gives %s", miekg.RcodeToString[loop.Rcode])
	}
}

func TestNamesChangeWithServices(t *testing.T) {
	s := newServer(t, Config{Upstreams: []netip.AddrPort{}})
	a := func(name string) string {
		return render(s.ask(t, new(miekg.Msg).SetQuestion(name+".demo.svc.cluster.local.", miekg.TypeA), false))
	}
	s.SetService(&corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: "out"},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.96.0.50", ClusterIPs: []string{"10.96.0.50"}},
	})
	if got := a("out"); got != "NOERROR | out.demo.svc.cluster.local. 5 IN A 10.96.0.50" {
		t.Error(got)
	}
	s.DeleteEndpointSlice("demo", "db-1")
	if got := a("db-0.db"); !strings.HasPrefix(got, "NXDOMAIN") {
		t.Error(got)
	}
	if got := a("db"); !strings.HasPrefix(got, "NOERROR | +") {
		t.Error(got)
	}
	for _, name := range []string{"hello", "db", "empty", "out", "alias", "loop"} {
		s.DeleteService("demo", name)
	}
	if got := render(s.ask(t, new(miekg.Msg).SetQuestion("demo.svc.cluster.local.", miekg.TypeA), false)); !strings.HasPrefix(got, "NXDOMAIN") {
		t.Errorf("a namespace without Services: %s", got)
	}
	if n := len(s.index.owned); n != 1 || len(s.services) != 0 || len(s.sliceOwner) != 0 {
		t.Errorf("%d owners are left, want the zone's own", n)
	}
}

func TestTruncation(t *testing.T) {
	s := newServer(t, Config{Upstreams: []netip.AddrPort{}})
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "demo", Name: "big-1", Labels: map[string]string{discoveryv1.LabelServiceName: "big"}},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	for i := range 100 {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.244.7.%d", i)}})
	}
	s.SetService(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: "big"}, Spec: corev1.ServiceSpec{ClusterIP: "None"}})
	s.SetEndpointSlice(slice)
	for _, c := range []struct {
		edns uint16
		tcp  bool
		full bool
		size int
	}{{0, false, false, 512}, {1000, false, false, 1000}, {4096, false, false, 1232}, {100, false, false, 512}, {0, true, true, 65535}, {512, true, true, 65535}} {
		m := new(miekg.Msg).SetQuestion("big.demo.svc.cluster.local.", miekg.TypeA)
		if c.edns > 0 {
			m.SetEdns0(c.edns, false)
		}
		p, _ := m.Pack()
		var q question
		answer, what := s.fast(&q, p, nil, c.tcp)
		var reply miekg.Msg
		if err := reply.Unpack(answer); err != nil || what != answered {
			t.Fatal(err, what)
		}
		if len(answer) > c.size || reply.Truncated == c.full || (len(reply.Answer) == 100) != c.full || len(reply.Answer) < 20 {
			t.Errorf("EDNS %d TCP %v: %d bytes, %d records, truncated %v", c.edns, c.tcp, len(answer), len(reply.Answer), reply.Truncated)
		}
		seen := map[string]bool{}
		for _, rr := range reply.Answer {
			seen[rr.(*miekg.A).A.String()] = true
		}
		if len(seen) != len(reply.Answer) {
			t.Errorf("some addresses are there twice")
		}
	}
}

func TestUnusualQueries(t *testing.T) {
	s := newServer(t, Config{Upstreams: []netip.AddrPort{}})
	chaos := new(miekg.Msg).SetQuestion("version.bind.", miekg.TypeTXT)
	chaos.Question[0].Qclass = miekg.ClassCHAOS
	if r := s.ask(t, chaos, false); r.Rcode != miekg.RcodeRefused {
		t.Error(r)
	}
	notify := new(miekg.Msg).SetNotify("cluster.local.")
	if r := s.ask(t, notify, false); r.Rcode != miekg.RcodeNotImplemented {
		t.Error(r)
	}
	future := new(miekg.Msg).SetQuestion("hello.demo.svc.cluster.local.", miekg.TypeA)
	future.SetEdns0(4096, false)
	future.IsEdns0().SetVersion(1)
	if r := s.ask(t, future, false); r.Rcode != miekg.RcodeBadVers {
		t.Error(r)
	}
	two := new(miekg.Msg).SetQuestion("hello.demo.svc.cluster.local.", miekg.TypeA)
	two.Question = append(two.Question, two.Question[0])
	if r := s.ask(t, two, false); r.Rcode != miekg.RcodeFormatError {
		t.Error(r)
	}
}

func FuzzAnswer(f *testing.F) {
	for _, name := range []string{"hello.demo.svc.cluster.local.", "x.", ".", "1-2-3-4.a.pod.cluster.local.", "5.1.244.10.in-addr.arpa."} {
		for _, typ := range []uint16{miekg.TypeA, miekg.TypeSRV, miekg.TypePTR} {
			m := new(miekg.Msg).SetQuestion(name, typ)
			p, _ := m.Pack()
			f.Add(p)
			m.SetEdns0(1400, true)
			p, _ = m.Pack()
			f.Add(p)
		}
	}
	s := newServer(f, Config{Upstreams: []netip.AddrPort{}})
	f.Fuzz(func(t *testing.T, p []byte) {
		for _, tcp := range []bool{false, true} {
			var q question
			answer, what := s.fast(&q, p, nil, tcp)
			if what == detailed || what == foreign {
				answer = s.slow(p, what, tcp)
			}
			if what == silent || answer == nil {
				continue
			}
			var reply miekg.Msg
			if err := reply.Unpack(answer); err != nil {
				t.Fatalf("the answer % x to % x cannot be read: %v", answer, p, err)
			}
			if !reply.Response || answer[0] != p[0] || answer[1] != p[1] {
				t.Fatalf("the answer is to another query: %v", reply.MsgHdr)
			}
			if !tcp && len(answer) > ednsSize {
				t.Fatalf("%d bytes over UDP", len(answer))
			}
		}
	})
}

// listenBoth listens at one port of UDP and TCP. The port that the kernel picks
// for one may be taken for the other, then it picks again.
func listenBoth(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	for {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		p, err := net.ListenPacket("udp4", l.Addr().String())
		if err == nil {
			return p, l
		}
		l.Close()
		if !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal(err)
		}
	}
}

// upstream is a resolver on loopback that knows a few names.
func upstream(t testing.TB, handle func(q miekg.Question, tcp bool) *miekg.Msg) netip.AddrPort {
	t.Helper()
	p, l := listenBoth(t)
	for _, server := range []*miekg.Server{{PacketConn: p}, {Listener: l}} {
		tcp := server.Listener != nil
		server.Handler = miekg.HandlerFunc(func(w miekg.ResponseWriter, m *miekg.Msg) {
			if reply := handle(m.Question[0], tcp); reply != nil {
				reply.SetReply(m)
				_ = w.WriteMsg(reply)
			}
		})
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		go func() { _ = server.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = server.Shutdown() })
	}
	return netip.MustParseAddrPort(p.LocalAddr().String())
}

func TestForwarding(t *testing.T) {
	world := upstream(t, func(q miekg.Question, tcp bool) *miekg.Msg {
		m := new(miekg.Msg)
		switch {
		case q.Name == "big.example.com." && !tcp:
			m.Truncated = true
		case q.Qtype == miekg.TypeA && strings.HasSuffix(q.Name, ".example.com."):
			m.Answer = []miekg.RR{addressRecord(q.Name, netip.MustParseAddr("203.0.113.9"))}
		case q.Name == "silent.":
			return nil
		}
		return m
	})
	// Nobody listens at the first resolver.
	dead, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	first := netip.MustParseAddrPort(dead.LocalAddr().String())
	dead.Close()
	s := newServer(t, Config{Upstreams: []netip.AddrPort{first, world}})
	for _, c := range []struct {
		name string
		tcp  bool
		want string
	}{
		{"www.example.com.", false, "NOERROR | www.example.com. 5 IN A 203.0.113.9"},
		{"www.example.com.", true, "NOERROR | www.example.com. 5 IN A 203.0.113.9"},
		{"out.demo.svc.cluster.local.", false, "NOERROR | out.demo.svc.cluster.local. 5 IN CNAME www.example.com. | www.example.com. 5 IN A 203.0.113.9"},
		{"big.example.com.", false, "NOERROR | truncated"},
		{"big.example.com.", true, "NOERROR | big.example.com. 5 IN A 203.0.113.9"},
		{"4.3.2.1.in-addr.arpa.", false, "NOERROR"},
	} {
		if got := render(s.ask(t, new(miekg.Msg).SetQuestion(c.name, miekg.TypeA), c.tcp)); got != c.want {
			t.Errorf("%s TCP %v\n got %s\nwant %s", c.name, c.tcp, got, c.want)
		}
	}
	s.SetService(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: "out"},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "big.example.com"}})
	if got := render(s.ask(t, new(miekg.Msg).SetQuestion("out.demo.svc.cluster.local.", miekg.TypeA), false)); !strings.Contains(got, "| big.example.com. 5 IN A 203.0.113.9") {
		t.Errorf("an alias to a large answer: %s", got)
	}
}

// A resolver that is silent costs its patience once, not for every question.
func TestSilentResolverIsAskedLast(t *testing.T) {
	var asked atomic.Int32
	silent := upstream(t, func(miekg.Question, bool) *miekg.Msg { asked.Add(1); return nil })
	good := upstream(t, func(q miekg.Question, _ bool) *miekg.Msg {
		return &miekg.Msg{Answer: []miekg.RR{addressRecord(q.Name, netip.MustParseAddr("203.0.113.9"))}}
	})
	s := newServer(t, Config{Upstreams: []netip.AddrPort{silent, good}})
	for i := range 5 {
		if got := render(s.ask(t, new(miekg.Msg).SetQuestion("www.example.com.", miekg.TypeA), false)); !strings.HasPrefix(got, "NOERROR |") {
			t.Error(got)
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("after question %d it was asked %d times", i, n)
		}
	}
}

func TestResolvConf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	write := func(text string, age time.Duration) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(-age)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	u := &upstreams{path: path, own: []netip.Addr{dnsAddress}}
	if got := u.get(); len(got) != 0 {
		t.Errorf("without a file: %v", got)
	}
	write("# comment\nsearch a b\nnameserver 10.96.0.10\nnameserver 192.0.2.53\nnameserver fd00::1\nnameserver nonsense\n", time.Hour)
	u.checked = time.Time{}
	if got := fmt.Sprint(u.get()); got != "[192.0.2.53:53 [fd00::1]:53]" {
		t.Error(got)
	}
	write("nameserver 192.0.2.54\n", time.Minute)
	u.checked = time.Now().Add(time.Hour) // just now, however long this takes
	if got := fmt.Sprint(u.get()); got != "[192.0.2.53:53 [fd00::1]:53]" {
		t.Error("the file was read again too early:", got)
	}
	u.checked = time.Time{}
	if got := fmt.Sprint(u.get()); got != "[192.0.2.54:53]" {
		t.Error(got)
	}
}

func TestServerOnSockets(t *testing.T) {
	host := nettest.New(t, "host")
	cfg := Config{Addresses: []netip.Addr{dnsAddress}, Upstreams: []netip.AddrPort{}}
	before := host.State(t)
	var s *Server
	open := func() (err error) {
		s, err = Open(context.Background(), cfg)
		return err
	}
	host.Do(t, open)
	host.Do(t, func() error {
		if second, err := Open(context.Background(), cfg); err == nil {
			second.Close()
			return fmt.Errorf("two servers share an address")
		}
		return nil
	})
	ask := func(network string) (string, error) {
		c, err := host.Dial(network, "10.96.0.10:53", time.Second)
		if err != nil {
			return "", err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		conn := &miekg.Conn{Conn: c}
		for range 3 {
			if err := conn.WriteMsg(new(miekg.Msg).SetQuestion("hello.demo.svc.cluster.local.", miekg.TypeA)); err != nil {
				return "", err
			}
			m, err := conn.ReadMsg()
			if err != nil {
				return "", err
			}
			if got := render(m); got != "NOERROR | hello.demo.svc.cluster.local. 5 IN A 10.96.0.77" {
				return got, nil
			}
		}
		return "", nil
	}
	// A question asked before the server starts is answered when it does.
	early := make(chan error, 1)
	go func() {
		got, err := ask("udp")
		if err == nil && got != "" {
			err = fmt.Errorf("got %s", got)
		}
		early <- err
	}()
	fill(s)
	s.Start()
	if err := <-early; err != nil {
		t.Error("an early question:", err)
	}
	for _, network := range []string{"udp", "tcp"} {
		if got, err := ask(network); err != nil || got != "" {
			t.Error(network, got, err)
		}
	}
	if n := s.Stats().Answered; n != 9 {
		t.Errorf("%d answers counted", n)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	host.Do(t, open)
	s.Close()
	host.Do(t, func() error { return Purge(context.Background(), cfg) })
	if after := host.State(t); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func BenchmarkFast(b *testing.B) {
	s := newServer(b, Config{Upstreams: []netip.AddrPort{}})
	for i := range 10_000 {
		ip := fmt.Sprintf("10.96.%d.%d", i/250, i%250)
		s.SetService(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: fmt.Sprintf("s%d", i)},
			Spec: corev1.ServiceSpec{ClusterIP: ip, ClusterIPs: []string{ip}}})
	}
	for _, name := range []string{"s5000.demo.svc.cluster.local.", "s5000.demo.demo.svc.cluster.local."} {
		b.Run(name, func(b *testing.B) {
			p, _ := new(miekg.Msg).SetQuestion(name, miekg.TypeA).Pack()
			out := make([]byte, 0, 512)
			var q question
			for b.Loop() {
				if _, what := s.fast(&q, p, out, false); what != answered {
					b.Fatal(what)
				}
			}
		})
	}
	b.Run("update", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			ip := fmt.Sprintf("10.97.0.%d", i%250)
			s.SetService(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: "s77"},
				Spec: corev1.ServiceSpec{ClusterIP: ip, ClusterIPs: []string{ip}}})
		}
	})
}
