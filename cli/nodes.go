package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"sagong/compose"
	"sagong/config"
)

// nodeWait is how long a further node may take to become Ready.
const nodeWait = time.Minute

// startNodes starts the nodes beside the first: as many as asked for, or as the
// cluster had before when none were.
func startNodes(ctx context.Context, s *session, cfg config.Config, nodes int) error {
	if nodes == 0 {
		nodes = 1 + compose.ExtraNodes(cfg)
	}
	if nodes == 1 {
		return nil
	}
	api, _, err := s.connect()
	if err != nil {
		return err
	}
	for n := 2; n <= nodes; n++ {
		begin := time.Now()
		name, err := compose.StartExtraNode(ctx, cfg, n)
		if err != nil {
			return err
		}
		if err := waitReady(ctx, api, name); err != nil {
			return fmt.Errorf("node %s does not become Ready: %w; its log is %s", name, err, filepath.Join(cfg.DataDir, "nodes", name, "agent.log"))
		}
		fmt.Fprintf(s.out, "Node %s is Ready after %.2f s.\n", name, time.Since(begin).Seconds())
	}
	return nil
}

func waitReady(ctx context.Context, api *kubernetes.Clientset, name string) error {
	ctx, cancel := context.WithTimeout(ctx, nodeWait)
	defer cancel()
	w, err := api.CoreV1().Nodes().Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	if err != nil {
		return err
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, open := <-w.ResultChan():
			if !open {
				return fmt.Errorf("the server ended the connection")
			}
			if n, ok := e.Object.(*corev1.Node); ok {
				for _, c := range n.Status.Conditions {
					if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
						return nil
					}
				}
			}
		}
	}
}
