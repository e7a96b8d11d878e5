package conformance

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

func configMap(name, label, value string) *corev1.ConfigMap {
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"watch-this": label}}}
	if value != "" {
		m.Data = map[string]string{"mutation": value}
	}
	return m
}

func (c *cluster) watchMaps(selector, from string) watch.Interface {
	w := must(c.CoreV1().ConfigMaps(ns).Watch(c.ctx, metav1.ListOptions{LabelSelector: selector, ResourceVersion: from}))
	c.Cleanup(w.Stop)
	return w
}

// next expects one event; nothing expects that there is none.
func (c *cluster) next(w watch.Interface, want watch.EventType, name, value string) *corev1.ConfigMap {
	c.Helper()
	synctest.Wait()
	select {
	case e := <-w.ResultChan():
		m, ok := e.Object.(*corev1.ConfigMap)
		if !ok || e.Type != want || m.Name != name || m.Data["mutation"] != value {
			c.Fatalf("%s %v, want %s of %s with %q", e.Type, e.Object, want, name, value)
		}
		return m
	default:
		c.Fatalf("no event, want %s of %s with %q", want, name, value)
		return nil
	}
}

func (c *cluster) nothing(w watch.Interface) {
	c.Helper()
	synctest.Wait()
	select {
	case e := <-w.ResultChan():
		c.Fatalf("%s %v, want nothing", e.Type, e.Object)
	default:
	}
}

func TestWatchers(t *testing.T) {
	conform(t, "[sig-api-machinery] Watchers should observe add, update, and delete watch notifications on configmaps [Conformance]", func(c *cluster) {
		maps := c.CoreV1().ConfigMaps(ns)
		a, b, both := c.watchMaps("watch-this=a", ""), c.watchMaps("watch-this=b", ""), c.watchMaps("watch-this in (a,b)", "")
		m := must(maps.Create(c.ctx, configMap("a", "a", ""), metav1.CreateOptions{}))
		c.next(a, watch.Added, "a", "")
		c.next(both, watch.Added, "a", "")
		m.Data = map[string]string{"mutation": "1"}
		must(maps.Update(c.ctx, m, metav1.UpdateOptions{}))
		c.next(a, watch.Modified, "a", "1")
		c.next(both, watch.Modified, "a", "1")
		c.ok(maps.Delete(c.ctx, "a", metav1.DeleteOptions{}))
		c.next(a, watch.Deleted, "a", "1")
		c.next(both, watch.Deleted, "a", "1")
		must(maps.Create(c.ctx, configMap("b", "b", ""), metav1.CreateOptions{}))
		c.next(b, watch.Added, "b", "")
		c.next(both, watch.Added, "b", "")
		c.nothing(a)
		c.ok(maps.Delete(c.ctx, "b", metav1.DeleteOptions{}))
		c.next(b, watch.Deleted, "b", "")
		c.next(both, watch.Deleted, "b", "")
		c.nothing(a)
	})
	conform(t, "[sig-api-machinery] Watchers should be able to start watching from a specific resource version [Conformance]", func(c *cluster) {
		maps := c.CoreV1().ConfigMaps(ns)
		m := must(maps.Create(c.ctx, configMap("m", "x", ""), metav1.CreateOptions{}))
		m.Data = map[string]string{"mutation": "1"}
		first := must(maps.Update(c.ctx, m, metav1.UpdateOptions{}))
		m = first.DeepCopy()
		m.Data["mutation"] = "2"
		must(maps.Update(c.ctx, m, metav1.UpdateOptions{}))
		c.ok(maps.Delete(c.ctx, "m", metav1.DeleteOptions{}))
		w := c.watchMaps("watch-this=x", first.ResourceVersion)
		c.next(w, watch.Modified, "m", "2")
		c.next(w, watch.Deleted, "m", "2")
		c.nothing(w)
	})
	conform(t, "[sig-api-machinery] Watchers should be able to restart watching from the last resource version observed by the previous watch [Conformance]", func(c *cluster) {
		maps := c.CoreV1().ConfigMaps(ns)
		w := c.watchMaps("watch-this=x", "")
		m := must(maps.Create(c.ctx, configMap("m", "x", ""), metav1.CreateOptions{}))
		c.next(w, watch.Added, "m", "")
		m.Data = map[string]string{"mutation": "1"}
		m = must(maps.Update(c.ctx, m, metav1.UpdateOptions{}))
		last := c.next(w, watch.Modified, "m", "1").ResourceVersion
		w.Stop()
		m.Data["mutation"] = "2"
		must(maps.Update(c.ctx, m, metav1.UpdateOptions{}))
		c.ok(maps.Delete(c.ctx, "m", metav1.DeleteOptions{}))
		again := c.watchMaps("watch-this=x", last)
		c.next(again, watch.Modified, "m", "2")
		c.next(again, watch.Deleted, "m", "2")
	})
	conform(t, "[sig-api-machinery] Watchers should observe an object deletion if it stops meeting the requirements of the selector [Conformance]", func(c *cluster) {
		maps := c.CoreV1().ConfigMaps(ns)
		w := c.watchMaps("watch-this=x", "")
		m := must(maps.Create(c.ctx, configMap("m", "x", ""), metav1.CreateOptions{}))
		c.next(w, watch.Added, "m", "")
		m.Data = map[string]string{"mutation": "1"}
		m = must(maps.Update(c.ctx, m, metav1.UpdateOptions{}))
		c.next(w, watch.Modified, "m", "1")
		m.Labels["watch-this"] = "other"
		m = must(maps.Update(c.ctx, m, metav1.UpdateOptions{}))
		c.next(w, watch.Deleted, "m", "1")
		m.Data["mutation"] = "2"
		m = must(maps.Update(c.ctx, m, metav1.UpdateOptions{}))
		c.nothing(w)
		m.Labels["watch-this"] = "x"
		m = must(maps.Update(c.ctx, m, metav1.UpdateOptions{}))
		c.next(w, watch.Added, "m", "2")
		m.Data["mutation"] = "3"
		must(maps.Update(c.ctx, m, metav1.UpdateOptions{}))
		c.next(w, watch.Modified, "m", "3")
		c.ok(maps.Delete(c.ctx, "m", metav1.DeleteOptions{}))
		c.next(w, watch.Deleted, "m", "3")
	})
	conform(t, "[sig-api-machinery] Watchers should receive events on concurrent watches in same order [Conformance]", func(c *cluster) {
		maps := c.CoreV1().ConfigMaps(ns)
		start := must(maps.List(c.ctx, metav1.ListOptions{})).ResourceVersion
		first := must(maps.Watch(c.ctx, metav1.ListOptions{ResourceVersion: start}))
		defer first.Stop()
		const events = 100
		var writer sync.WaitGroup
		writer.Go(func() {
			for i := range events {
				name := fmt.Sprint("m", i%5)
				switch i / 5 % 3 {
				case 0:
					must(maps.Create(c.ctx, configMap(name, "x", ""), metav1.CreateOptions{}))
				case 1:
					must(maps.Update(c.ctx, configMap(name, "x", fmt.Sprint(i)), metav1.UpdateOptions{}))
				default:
					c.ok(maps.Delete(c.ctx, name, metav1.DeleteOptions{}))
				}
			}
		})
		var order []string
		var others []watch.Interface
		for range events {
			m := (<-first.ResultChan()).Object.(*corev1.ConfigMap)
			order = append(order, m.ResourceVersion)
			w := must(maps.Watch(c.ctx, metav1.ListOptions{ResourceVersion: m.ResourceVersion}))
			defer w.Stop()
			others = append(others, w)
		}
		writer.Wait()
		for i, w := range others {
			for _, want := range order[i+1:] {
				if got := (<-w.ResultChan()).Object.(*corev1.ConfigMap).ResourceVersion; got != want {
					c.Fatalf("the watch from event %d saw revision %s, the first one %s", i, got, want)
				}
			}
		}
	})
}
