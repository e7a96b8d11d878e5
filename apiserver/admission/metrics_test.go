package admission

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"sagong/apiserver/resource"
)

type slowRule struct{ err error }

func (slowRule) Name() string { return "Slow" }

func (r slowRule) Admit(context.Context, *resource.Attributes) error {
	for begin := time.Now(); time.Since(begin) < 2*idle; {
	}
	return r.err
}

type idleRule struct{}

func (idleRule) Name() string { return "Idle" }

func (idleRule) Validate(context.Context, *resource.Attributes) error { return nil }

func TestMetricsOfTheChain(t *testing.T) {
	registry := prometheus.NewRegistry()
	m := NewMetrics(registry)
	for _, refusal := range []error{nil, errors.New("no")} {
		c := NewChain(slowRule{refusal}, idleRule{})
		c.Metrics = m
		a := &resource.Attributes{Operation: resource.Create}
		if err := c.Admit(t.Context(), a); err != refusal {
			t.Fatal(err)
		}
		if err := c.Validate(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	answer := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	text := answer.Body.String()
	for _, line := range []string{
		`apiserver_admission_controller_admission_duration_seconds_count{name="Slow",operation="CREATE",rejected="false",type="admit"} 1`,
		`apiserver_admission_controller_admission_duration_seconds_count{name="Slow",operation="CREATE",rejected="true",type="admit"} 1`,
		`apiserver_admission_step_admission_duration_seconds_count{operation="CREATE",rejected="true",type="admit"} 1`,
		`apiserver_admission_step_admission_duration_seconds_count{operation="CREATE",rejected="false",type="validate"} 2`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no %s in\n%s", line, text)
		}
	}
}
