package serving_test

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/telemetry"
)

// tracing keeps the spans in memory.
func tracing(t testing.TB) (*telemetry.Tracing, *tracetest.InMemoryExporter) {
	kept := tracetest.NewInMemoryExporter()
	return must(telemetry.NewTracing(telemetry.TracingOptions{
		Traces: sdktrace.NewTracerProvider(sdktrace.WithSyncer(kept)), Metrics: metricnoop.NewMeterProvider(),
		Redact: telemetry.NewRedactor("answer-1").Redact,
	}))(t), kept
}

// TestTracesHear: in every dialect the span has the answer's id, without secrets, and how it ended; a request that was refused
// has a span too, and what it was told.
func TestTracesHear(t *testing.T) {
	told, kept := tracing(t)
	w := newWorld(t, setup{options: serving.Options{Tracing: told}})
	for _, test := range []struct{ path, body, finish, failed string }{
		{"/v1/chat/completions", ask("one/cheap", ""), "stop", ""},
		{"/v1/chat/completions", ask("one/cheap", `,"stream":true`), "stop", ""},
		{"/v1/messages", ask("one/cheap", `,"max_tokens":9`), "end_turn", ""},
		{"/v1/messages", ask("one/cheap", `,"max_tokens":9,"stream":true`), "end_turn", ""},
		{"/v1/responses", `{"model":"one/cheap","input":"hi"}`, "completed", ""},
		{"/v1/responses", `{"model":"one/cheap","input":"hi","stream":true}`, "completed", ""},
		{"/v1/chat/completions", ask("nobody/knows", ""), "", "model_not_found"},
		{"/v1/chat/completions", "{", "", "invalid_request"},
	} {
		kept.Reset()
		w.do("POST", test.path, test.body)
		var top *tracetest.SpanStub
		spans := kept.GetSpans()
		for i := range spans {
			if spans[i].SpanKind == trace.SpanKindServer {
				top = &spans[i]
			}
		}
		if top == nil {
			t.Errorf("%s %s: no span", test.path, test.body)
			continue
		}
		got := attribute.NewSet(top.Attributes...)
		value := func(name attribute.Key) string { v, _ := got.Value(name); return v.Emit() }
		finish, id := "", ""
		if test.finish != "" {
			finish, id = `["`+test.finish+`"]`, value("gen_ai.response.id")
			if id == "" || id == "answer-1" {
				t.Errorf("%s %s: the answer's id is %q", test.path, test.body, id)
			}
		}
		if value("gen_ai.response.finish_reasons") != finish || value("error.type") != test.failed || value("gen_ai.response.id") != id {
			t.Errorf("%s %s: %v", test.path, test.body, top.Attributes)
		}
	}
}

// BenchmarkTraced is BenchmarkChat with tracing: every request is sampled, and its spans are thrown away.
func BenchmarkTraced(b *testing.B) {
	traces := sdktrace.NewTracerProvider(sdktrace.WithBatcher(tracetest.NewNoopExporter()))
	defer func() { _ = traces.Shutdown(context.Background()) }()
	told := must(telemetry.NewTracing(telemetry.TracingOptions{Traces: traces, Metrics: metricnoop.NewMeterProvider()}))(b)
	w, body := tenArmsWith(b, "", serving.Options{Tracing: told})
	b.ReportAllocs()
	for b.Loop() {
		w.send(body)
	}
}
