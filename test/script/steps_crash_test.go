package script

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// writer creates ConfigMaps as fast as one client can and remembers each that
// the server has acknowledged.
type writer struct {
	mu    sync.Mutex
	acked []string
}

// crashloop N: N times, under writes, kills the server at a random instant and
// starts it again. In the end every acknowledged write must be there.
func crashLoop(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: crashloop N")
	}
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	config, err := clientcmd.BuildConfigFromFlags("", ts.Getenv("KUBECONFIG"))
	ts.Check(err)
	config.GroupVersion, config.APIPath, config.QPS = &schema.GroupVersion{Version: "v1"}, "/api", -1
	config.NegotiatedSerializer, config.Timeout = scheme.Codecs.WithoutConversion(), 30*time.Second
	client, err := rest.RESTClientFor(config)
	ts.Check(err)
	ctx, cancel := context.WithCancel(context.Background())
	w := &writer{}
	var wg sync.WaitGroup
	for id := range 4 {
		wg.Go(func() { w.run(ctx, client, id) })
	}
	var slowest time.Duration
	var fault string
	for i := range n {
		if err := crash(ts, w); err != nil {
			fault = fmt.Sprintf("crash %d: %v", i, err)
			break
		}
		begin := time.Now()
		out, err := output(ts, []string{"sagong", "up", "--no-kubeconfig"})
		if err != nil {
			fault = fmt.Sprintf("crash %d: %v\n%s", i, err, out)
			break
		}
		slowest = max(slowest, time.Since(begin))
	}
	cancel()
	wg.Wait()
	if fault != "" {
		ts.Fatalf("%s", fault)
	}
	list := &corev1.ConfigMapList{}
	ts.Check(client.Get().Namespace("default").Resource("configmaps").Do(context.Background()).Into(list))
	have := map[string]bool{}
	for _, c := range list.Items {
		have[c.Name] = true
	}
	lost := 0
	for _, name := range w.acked {
		if !have[name] {
			lost++
		}
	}
	ts.Logf("%d writes acknowledged, %d lost; slowest start %v", len(w.acked), lost, slowest)
	if lost > 0 || len(w.acked) < 10*n {
		ts.Fatalf("%d of %d acknowledged writes are lost", lost, len(w.acked))
	}
}

// crash kills the server at a random instant once some writes went through.
func crash(ts *testscript.TestScript, w *writer) error {
	from := w.count()
	want := from + 10 + rand.IntN(60)
	deadline := time.Now().Add(time.Minute)
	for w.count() < want {
		if time.Now().After(deadline) {
			return fmt.Errorf("only %d writes in a minute", w.count()-from)
		}
		time.Sleep(time.Millisecond)
	}
	killServer(ts)
	return nil
}

func (w *writer) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.acked)
}

func (w *writer) run(ctx context.Context, client rest.Interface, id int) {
	for i := 0; ctx.Err() == nil; i++ {
		c := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("w%d-%d", id, i)}, Data: map[string]string{"text": strings.Repeat("x", 500)}}
		err := client.Post().Namespace("default").Resource("configmaps").Body(c).Do(ctx).Error()
		if err != nil {
			time.Sleep(5 * time.Millisecond) // the server is away
			continue
		}
		w.mu.Lock()
		w.acked = append(w.acked, c.Name)
		w.mu.Unlock()
	}
}
