package compose

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"k8s.io/apiserver/pkg/apis/apiserver"
	tracingapi "k8s.io/component-base/tracing/api/v1"

	"sagong/apiserver/configfile"
)

// openTracing makes what sends the spans of this server, as a file of upstream's
// TracingConfiguration says; nil when path is empty. Spans go out in batches over
// gRPC, by default to localhost:4317, and are dropped when nobody takes them.
func openTracing(ctx context.Context, path, instance string) (*sdktrace.TracerProvider, error) {
	if path == "" {
		return nil, nil
	}
	c, err := configfile.Read[*apiserver.TracingConfiguration](path)
	if err != nil {
		return nil, fmt.Errorf("failed to read tracing config: %w", err)
	}
	if errs := tracingapi.ValidateTracingConfiguration(&c.TracingConfiguration, nil, nil); len(errs) > 0 {
		return nil, fmt.Errorf("failed to validate tracing configuration: %w", errs.ToAggregate())
	}
	o := []otlptracegrpc.Option{otlptracegrpc.WithInsecure()}
	if c.Endpoint != nil {
		o = append(o, otlptracegrpc.WithEndpoint(*c.Endpoint))
	}
	exporter, err := otlptracegrpc.New(ctx, o...)
	if err != nil {
		return nil, fmt.Errorf("cannot send traces: %w", err)
	}
	// Without a rate only requests are traced whose sender, trusted to say so, had
	// them sampled.
	sampler := sdktrace.NeverSample()
	if n := c.SamplingRatePerMillion; n != nil && *n > 0 {
		sampler = sdktrace.TraceIDRatioBased(float64(*n) / 1e6)
	}
	return sdktrace.NewTracerProvider(
		sdktrace.WithSampler(sdktrace.ParentBased(sampler)), sdktrace.WithBatcher(exporter),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", "apiserver"), attribute.String("service.instance.id", instance))),
	), nil
}

// closeTracing sends what is left, as far as somebody takes it soon.
func closeTracing(p *sdktrace.TracerProvider) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = p.Shutdown(ctx)
}
