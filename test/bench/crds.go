package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"k8s.io/client-go/rest"
)

// customKinds is how many definitions measureCRDs makes, customFields how many
// fields each schema has below its spec: what a cluster with a few operators has.
const customKinds, customFields = 100, 60

// definition is a CustomResourceDefinition with a schema of usual size and a rule.
func definition(i int) []byte {
	fields := map[string]any{"replicas": map[string]any{"type": "integer", "minimum": 0}}
	for f := range customFields {
		fields[fmt.Sprint("field", f)] = map[string]any{
			"type": "object", "description": "what this part of the object is to be like, as its operator reads it",
			"properties": map[string]any{
				"name":   map[string]any{"type": "string", "maxLength": 63, "pattern": "^[a-z0-9-]*$"},
				"labels": map[string]any{"type": "object", "additionalProperties": map[string]any{"type": "string"}},
				"ports":  map[string]any{"type": "array", "maxItems": 16, "items": map[string]any{"type": "integer", "format": "int32"}},
			},
		}
	}
	plural := fmt.Sprintf("things%d", i)
	body, err := json.Marshal(map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": map[string]any{"name": plural + ".bench.example.org"},
		"spec": map[string]any{
			"group": "bench.example.org", "scope": "Namespaced",
			"names": map[string]any{"plural": plural, "singular": fmt.Sprint("thing", i), "kind": fmt.Sprint("Thing", i)},
			"versions": []any{map[string]any{
				"name": "v1", "served": true, "storage": true, "subresources": map[string]any{"status": map[string]any{}},
				"schema": map[string]any{"openAPIV3Schema": map[string]any{"type": "object", "properties": map[string]any{
					"spec": map[string]any{"type": "object", "properties": fields, "x-kubernetes-validations": []any{
						map[string]any{"rule": "!has(self.replicas) || self.replicas < 100", "message": "too many"},
					}},
					"status": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true},
				}}},
			}},
		},
	})
	if err != nil {
		panic(err) // of maps and strings
	}
	return body
}

// measureCRDs starts a server whose store has a hundred definitions, until it is
// ready and serves the kinds of them all.
func measureCRDs(ctx context.Context, b *bench, runs int) ([][]float64, error) {
	var seconds, cpu []float64
	err := b.with(ctx, func(c *cluster) error {
		for i := range customKinds {
			b.say("crds: definition %d of %d", i+1, customKinds)
			err := c.api.CoreV1().RESTClient().Post().AbsPath("/apis/apiextensions.k8s.io/v1/customresourcedefinitions").
				SetHeader("Content-Type", "application/json").Body(definition(i)).Do(ctx).Error()
			if err != nil {
				return fmt.Errorf("cannot create definition %d: %w", i, err)
			}
		}
		// All are established before the server stops.
		for c.servesCustomKinds(ctx) != nil {
			if err := pause(ctx, 100*time.Millisecond); err != nil {
				return err
			}
		}
		for i := range runs {
			b.say("crds: start %d of %d", i+1, runs)
			if err := c.sagong(ctx, "down", "--data-dir", c.data()); err != nil {
				return err
			}
			begin := time.Now()
			if err := c.up(ctx); err != nil {
				return err
			}
			if err := c.servesCustomKinds(ctx); err != nil {
				return err
			}
			seconds = append(seconds, time.Since(begin).Seconds())
			pid, err := c.pid()
			if err != nil {
				return err
			}
			used, err := processorTime(pid)
			if err != nil {
				return err
			}
			cpu = append(cpu, used.Seconds()*1000)
		}
		b.note = fmt.Sprintf("the server's processor time: %.0f ms", median(cpu))
		return nil
	})
	return [][]float64{seconds}, err
}

// servesCustomKinds lists the objects of each kind once.
func (c *cluster) servesCustomKinds(ctx context.Context) error {
	client, err := rest.HTTPClientFor(rest.CopyConfig(c.config))
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	for i := range customKinds {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/apis/bench.example.org/v1/things%d", c.config.Host, i), nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("a list of custom kind %d: %s", i, resp.Status)
		}
	}
	return nil
}
