package nodes

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

// ttlSteps are upstream's: in clusters of so many nodes, agents may use what they
// know of Secrets and ConfigMaps for so many seconds. The steps overlap, so that a
// cluster whose size goes to and fro stays on one.
var ttlSteps = []struct{ least, most, seconds int }{
	{0, 100, 0}, {90, 500, 15}, {450, 1000, 30}, {900, 2000, 60}, {1800, 10000, 300}, {9000, math.MaxInt, 600},
}

type ttlController struct {
	nodes *reconcile.View[*corev1.Node]

	mu   sync.Mutex
	size int
	step int
}

// NewTTL returns the controller that tells each node's agent, by an annotation, for
// how long it may use what it has read of Secrets and ConfigMaps.
func NewTTL(h *reconcile.Hub) reconcile.Controller {
	return &ttlController{nodes: reconcile.ViewOf[*corev1.Node](h)}
}

func (c *ttlController) Name() string { return "ttl" }

// Inputs has a node looked at when it changes; as upstream, not all of them when
// their number does.
func (c *ttlController) Inputs() []reconcile.Input {
	return []reconcile.Input{reconcile.On(c.nodes, func(old, new *corev1.Node, enqueue func(object.Key)) {
		by := 0
		switch {
		case old == nil:
			by = 1
		case new == nil:
			by = -1
		}
		if want := c.resized(by); new != nil && !hasTTL(new, want) {
			enqueue(object.KeyOf(new))
		}
	})}
}

// resized notes that there are more or fewer nodes, and gives the seconds for that
// many.
func (c *ttlController) resized(by int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.size += by
	for c.size > ttlSteps[c.step].most {
		c.step++
	}
	for c.size < ttlSteps[c.step].least {
		c.step--
	}
	return ttlSteps[c.step].seconds
}

func hasTTL(n *corev1.Node, seconds int) bool {
	has, err := strconv.Atoi(n.Annotations[corev1.ObjectTTLAnnotationKey])
	return err == nil && has == seconds
}

func (c *ttlController) Outputs() []reconcile.Output {
	return []reconcile.Output{{Kind: c.nodes.Definition().GVK().GroupKind(), Field: "metadata.annotations[" + corev1.ObjectTTLAnnotationKey + "]"}}
}

func (c *ttlController) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	n, ok := c.nodes.Get("", key.Name)
	want := c.resized(0)
	if !ok || hasTTL(n, want) {
		return reconcile.Result{}, nil
	}
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"annotations": map[string]string{corev1.ObjectTTLAnnotationKey: strconv.Itoa(want)},
	}})
	if err != nil {
		return reconcile.Result{}, err
	}
	if _, err := client.PatchOf[*corev1.Node](ctx, w, "", n.Name, client.Patch{Type: types.StrategicMergePatchType, Data: body}); err != nil {
		return reconcile.Result{}, ignoreMissing(fmt.Errorf("cannot annotate node: %w", err))
	}
	return reconcile.Result{}, nil
}
