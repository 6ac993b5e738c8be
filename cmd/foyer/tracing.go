package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.uber.org/zap"

	"foyer/service"
)

// tracing is what makes traces and sends them. nil: nothing is traced.
type tracing struct {
	provider *sdktrace.TracerProvider
	spans    *spans
	tracer   *service.Tracer
}

// exportWithin is how long one export may take, tries included.
const exportWithin = 10 * time.Second

func (s *settings) checkTracing() error {
	var errs []error
	if !(s.TraceRatio >= 0 && s.TraceRatio <= 1) { // NaN is neither
		errs = append(errs, fmt.Errorf("--trace-ratio: %v is not from 0 to 1", s.TraceRatio))
	}
	if s.TraceEndpoint != "" {
		u, err := url.Parse(s.TraceEndpoint)
		switch {
		case err != nil:
			errs = append(errs, errors.New("--trace-endpoint: this is no URL")) // it may have a password, which the error would show
		case u.User != nil:
			errs = append(errs, errors.New("--trace-endpoint: a URL with a user; OTEL_EXPORTER_OTLP_HEADERS has what the collector wants to see"))
		case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
			errs = append(errs, fmt.Errorf("--trace-endpoint: %q is not of the form http://HOST:PORT or https://HOST:PORT", s.TraceEndpoint))
		}
	}
	return errors.Join(errs...)
}

// openTracing begins to trace. It does not wait for the collector.
func openTracing(s *settings, node service.NodeID, told *zap.Logger) (*tracing, error) {
	if s.TraceEndpoint == "" {
		return nil, nil
	}
	told = told.Named("traces")
	// What the library has to say comes by a handler of the process.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { told.Warn("traces", zap.NamedError("err", err)) }))
	exporter, err := otlptracegrpc.New(context.Background(), otlptracegrpc.WithEndpointURL(s.TraceEndpoint),
		otlptracegrpc.WithTimeout(exportWithin), otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{
			Enabled: true, InitialInterval: time.Second, MaxInterval: exportWithin / 2, MaxElapsedTime: exportWithin,
		}))
	if err != nil {
		return nil, fmt.Errorf("--trace-endpoint: %w", err)
	}
	// What the environment says counts more than what stands here.
	who := []attribute.KeyValue{attribute.String("service.name", "foyer"), attribute.String("service.version", buildVersion())}
	if node != "" { // else it is random, and each step has it
		who = append(who, attribute.String("service.instance.id", string(node)))
	}
	about, err := resource.New(context.Background(), resource.WithTelemetrySDK(), resource.WithAttributes(who...), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	t := &tracing{spans: newSpans(exporter, told)}
	t.provider = sdktrace.NewTracerProvider(sdktrace.WithResource(about), sdktrace.WithSpanProcessor(t.spans),
		sdktrace.WithSampler(sdktrace.AlwaysSample()), // a caller that asks for a span has decided that it is recorded
		sdktrace.WithRawSpanLimits(spanLimits))
	t.tracer = service.NewTracer(t.provider.Tracer("foyer"), s.TraceRatio)
	return t, nil
}

// spanLimits bound what one span keeps.
var spanLimits = sdktrace.SpanLimits{
	AttributeValueLengthLimit: 256, AttributeCountLimit: 16, EventCountLimit: 4, LinkCountLimit: 1,
	AttributePerEventCountLimit: 4, AttributePerLinkCountLimit: 4,
}

// Tracer is what the node traces with; nil: it does not.
func (t *tracing) Tracer() *service.Tracer {
	if t == nil {
		return nil
	}
	return t.tracer
}

// close sends what is left, as long as ctx lasts.
func (t *tracing) close(ctx context.Context) {
	if t != nil {
		_ = t.spans.Shutdown(ctx) // what was not sent is counted; the provider would not even ask when ctx has ended
	}
}

// counts are of spans that were not sent, by reason.
func (t *tracing) counts(into map[string]int64) {
	for reason, n := range map[string]func(*spans) int64{
		reasonTraceQueue: func(s *spans) int64 { return s.full.Load() }, reasonTraceExport: func(s *spans) int64 { return s.failed.Load() },
	} {
		into[reason] = 0
		if t != nil {
			into[reason] = n(t.spans)
		}
	}
}
