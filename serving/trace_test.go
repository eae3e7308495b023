package serving_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/gate"
	"github.com/tradewind-llm/tradewind/serving/telemetry"
	"github.com/tradewind-llm/tradewind/serving/upstream"
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

// spansOf is the attributes of the spans of a kind, each as text, in the order of their beginning.
func spansOf(kept *tracetest.InMemoryExporter, kind trace.SpanKind) (all []map[string]string) {
	for _, s := range kept.GetSpans() {
		if s.SpanKind != kind {
			continue
		}
		attrs := map[string]string{"name": s.Name}
		for _, a := range s.Attributes {
			attrs[string(a.Key)] = a.Value.Emit()
		}
		all = append(all, attrs)
	}
	return all
}

// TestTracedTokens: the conventions count cached tokens as a part of the input and reasoning as one of the output.
func TestTracedTokens(t *testing.T) {
	told, kept := tracing(t)
	w := newWorld(t, setup{options: serving.Options{Tracing: told}})
	w.vendor.play(func(int, *upstream.Request) (*script, error) {
		return &script{events: []string{whole("391", `{"prompt_tokens":100,"completion_tokens":50,"prompt_tokens_details":{"cached_tokens":60},"completion_tokens_details":{"reasoning_tokens":30}}`)}}, nil
	})
	w.chat(ask("one/cheap", "")).wantOK()
	for _, s := range append(spansOf(kept, trace.SpanKindServer), spansOf(kept, trace.SpanKindClient)...) {
		for name, want := range map[string]string{"input_tokens": "100", "cache_read.input_tokens": "60", "output_tokens": "50", "reasoning.output_tokens": "30"} {
			if got := s["gen_ai.usage."+name]; got != want {
				t.Errorf("%s: %s is %q, want %s", s["name"], name, got, want)
			}
		}
	}
}

// TestTracedFailures: a call that was refused has the HTTP status as its error, whatever the status means, and one without a
// status what went wrong.
func TestTracedFailures(t *testing.T) {
	for want, failure := range map[string]error{
		"429": fails(upstream.RateLimited, 429), "401": fails(upstream.Auth, 401), "404": fails(upstream.ModelGone, 404), "408": fails(upstream.TimedOut, 408),
		"400": fails(upstream.ContextLength, 400), "503": fails(upstream.Server, 503), "connect": fails(upstream.Connect, 0), "bad_answer": fails(upstream.BadAnswer, 200),
	} {
		told, kept := tracing(t)
		w := newWorld(t, setup{options: serving.Options{Tracing: told}})
		w.vendor.play(func(int, *upstream.Request) (*script, error) { return nil, failure })
		w.chat(ask("one/cheap", `,"tradewind":{"fallback":false}`))
		if calls := spansOf(kept, trace.SpanKindClient); len(calls) != 1 || calls[0]["error.type"] != want {
			t.Errorf("%v: %v, want the error %s", failure, calls, want)
		}
	}
}

// TestTracesTellNoSecretOfAClient: a key that a client has put where it does not belong is on no span, nor in its name.
func TestTracesTellNoSecretOfAClient(t *testing.T) {
	told, kept := tracing(t)
	w := newWorld(t, setup{options: serving.Options{Tracing: told}})
	for _, body := range []string{ask("answer-1", ""), ask("one/cheap", `,"stop":"answer-1"`), ask("one/cheap", `,"stop":["x","answer-1"]`)} {
		kept.Reset()
		w.do("POST", "/v1/chat/completions", body, "Host", "answer-1")
		spans := kept.GetSpans()
		if len(spans) == 0 {
			t.Errorf("%s: no span", body)
		}
		for _, s := range spans {
			if text := fmt.Sprint(s.Name, s.Attributes); strings.Contains(text, "answer-1") {
				t.Errorf("%s: %s", body, text)
			}
		}
	}
}

// TestTracedLadder: of several answers the spans have the id and the end of the one that was served.
func TestTracedLadder(t *testing.T) {
	for name, texts := range map[string]map[catalog.ArmID]string{
		"the second": {"one/cheap": "bad", "three/dear": "good"}, "the first, and the others break off": {"one/cheap": "bad"},
	} {
		told, kept := tracing(t)
		w := gated(t, gate.PolicyConfig{}, setup{options: serving.Options{Tracing: told}})
		w.vendor.play(func(_ int, r *upstream.Request) (*script, error) {
			answer := whole(texts[r.Arm.ID], `{"prompt_tokens":7,"completion_tokens":3}`)
			answer = strings.Replace(answer, "answer-1", "from-"+r.Arm.ID.Provider(), 1)
			if texts[r.Arm.ID] == "" { // it says two answers, which is none
				return &script{events: []string{strings.Replace(answer, `"content":""`, `"content":"x"`, 1), answer}}, nil
			}
			return &script{events: []string{answer}}, nil
		})
		a := w.chat(ask("auto", "")).wantOK()
		want := "from-" + strings.Split(a.header.Get("X-Tradewind-Model"), "/")[0]
		for _, s := range append(spansOf(kept, trace.SpanKindServer), spansOf(kept, trace.SpanKindClient)...) {
			if id := s["gen_ai.response.id"]; id != "" && (id != want || s["gen_ai.response.finish_reasons"] != `["stop"]`) || id == "" && s["gen_ai.response.model"] != "" {
				t.Errorf("%s: %v, want the answer %s", name, s, want)
			}
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
