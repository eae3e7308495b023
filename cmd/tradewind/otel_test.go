package main

import (
	"cmp"
	"compress/gzip"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	spanpb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collector takes what OTLP over HTTP brings, as a real one would.
type collector struct {
	*httptest.Server
	mu       sync.Mutex
	spans    []span
	resource map[string]any
	points   map[string][]map[string]any // of each metric, the attributes of its points
	units    map[string]string
	raw      []byte
	header   http.Header
	requests int
	// down refuses, and hang never answers.
	down, hang bool
	ended      chan struct{}
}

// span is one, with its attributes as Go values.
type span struct {
	*spanpb.Span
	attrs map[string]any
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{points: map[string][]map[string]any{}, units: map[string]string{}, ended: make(chan struct{})}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		c.requests++
		down, hang := c.down, c.hang
		c.mu.Unlock()
		if hang {
			<-c.ended
			return
		}
		if down {
			w.WriteHeader(http.StatusBadRequest) // what is not worth another try
			return
		}
		if err := c.take(r); err != nil {
			t.Errorf("the collector cannot read %s: %v", r.URL, err)
		}
	}))
	t.Cleanup(c.Close)
	t.Cleanup(func() { close(c.ended) })
	return c
}

func (c *collector) take(r *http.Request) error {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			return err
		}
		body = z
	}
	raw, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.raw, c.header = append(c.raw, raw...), r.Header.Clone()
	switch r.URL.Path {
	case "/v1/traces":
		var in tracepb.ExportTraceServiceRequest
		if err := proto.Unmarshal(raw, &in); err != nil {
			return err
		}
		for _, rs := range in.ResourceSpans {
			c.resource = attributes(rs.Resource.Attributes)
			for _, ss := range rs.ScopeSpans {
				for _, s := range ss.Spans {
					c.spans = append(c.spans, span{s, attributes(s.Attributes)})
				}
			}
		}
	case "/v1/metrics":
		var in metricspb.ExportMetricsServiceRequest
		if err := proto.Unmarshal(raw, &in); err != nil {
			return err
		}
		for _, rm := range in.ResourceMetrics {
			for _, sm := range rm.ScopeMetrics {
				for _, m := range sm.Metrics {
					c.units[m.Name] = m.Unit
					c.points[m.Name] = nil
					for _, p := range m.GetHistogram().GetDataPoints() {
						c.points[m.Name] = append(c.points[m.Name], attributes(p.Attributes))
					}
				}
			}
		}
	default:
		return errors.New("unknown path")
	}
	return nil
}

func attributes(all []*commonpb.KeyValue) map[string]any {
	out := map[string]any{}
	for _, kv := range all {
		switch v := kv.Value.Value.(type) {
		case *commonpb.AnyValue_StringValue:
			out[kv.Key] = v.StringValue
		case *commonpb.AnyValue_IntValue:
			out[kv.Key] = v.IntValue
		case *commonpb.AnyValue_DoubleValue:
			out[kv.Key] = v.DoubleValue
		case *commonpb.AnyValue_BoolValue:
			out[kv.Key] = v.BoolValue
		case *commonpb.AnyValue_ArrayValue:
			var list []string
			for _, e := range v.ArrayValue.Values {
				list = append(list, e.GetStringValue())
			}
			out[kv.Key] = strings.Join(list, ",")
		}
	}
	return out
}

// traced starts a server that sends to a collector. The SDK reads the process's own environment.
func traced(t *testing.T, c *collector, more map[string]string, config string) *service {
	t.Helper()
	e := env{"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL, "OTEL_BSP_SCHEDULE_DELAY": "20", "OTEL_METRIC_EXPORT_INTERVAL": "60000"}
	maps.Copy(e, more)
	for name, v := range e {
		if strings.HasPrefix(name, "OTEL_") {
			t.Setenv(name, v)
		}
	}
	return start(t, e, "--config", config)
}

// trace waits for the spans of a trace: the server's own first, then the others in the order of their beginning.
func (c *collector) trace(t *testing.T, id string, want int) []span {
	t.Helper()
	for range 6000 { // a minute
		c.mu.Lock()
		var all []span
		for _, s := range c.spans {
			if hex.EncodeToString(s.TraceId) == id {
				all = append(all, s)
			}
		}
		c.mu.Unlock()
		if len(all) >= want {
			slices.SortFunc(all, func(a, b span) int {
				if hex.EncodeToString(a.ParentSpanId) == clientSpan {
					return -1
				}
				if hex.EncodeToString(b.ParentSpanId) == clientSpan {
					return 1
				}
				return cmp.Compare(a.StartTimeUnixNano, b.StartTimeUnixNano)
			})
			return all
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("the collector has not got %d spans of trace %s", want, id)
	return nil
}

const (
	clientTrace = "0af7651916cd43dd8448eb211c80319c"
	clientSpan  = "b7ad6b7169203331"
)

// asksTraced sends a chat request in a trace of its own.
func asksTraced(ctx context.Context, s *service, trace, key, body string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, "POST", s.url("/v1/chat/completions"), strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Traceparent", "00-"+trace+"-"+clientSpan+"-01")
	req.Header.Set("Tracestate", "shop=1")
	return http.DefaultClient.Do(req)
}

// absent is the want of an attribute that must not be there, present of one whose value no test can know.
var absent, present = new(int), new(int)

func (s span) check(t *testing.T, what string, want map[string]any) {
	t.Helper()
	for name, v := range want {
		got, there := s.attrs[name]
		switch v {
		case absent:
			if there {
				t.Errorf("%s: %s is %v, want none", what, name, got)
			}
		case present:
			if !there || got == "" {
				t.Errorf("%s lacks %s", what, name)
			}
		default:
			if got != v {
				t.Errorf("%s: %s is %v (%T), want %v", what, name, got, got, v)
			}
		}
	}
	for name := range s.attrs {
		if _, known := want[name]; !known {
			t.Errorf("%s has %s=%v, which nobody promised", what, name, s.attrs[name])
		}
	}
}

// with is a table with some rows changed.
func with(table map[string]any, changes map[string]any) map[string]any {
	out := maps.Clone(table)
	maps.Copy(out, changes)
	return out
}

// What an answer leaves on the server's span and on that of the call that gave it.
var (
	answeredAttrs = map[string]any{
		"gen_ai.operation.name": "chat", "gen_ai.provider.name": "lab", "server.address": "127.0.0.1",
		"gen_ai.request.model": "lab/small", "gen_ai.request.temperature": 0.5, "gen_ai.request.top_p": 0.9, "gen_ai.request.max_tokens": int64(50),
		"gen_ai.request.seed": int64(7), "gen_ai.request.stop_sequences": "END,STOP",
		"gen_ai.response.id": "c1", "gen_ai.response.model": "lab/small", "gen_ai.response.finish_reasons": "stop",
		"gen_ai.usage.input_tokens": int64(10), "gen_ai.usage.output_tokens": int64(20), "gen_ai.usage.cache_read.input_tokens": int64(0),
		"gen_ai.usage.cache_creation.input_tokens": int64(0), "gen_ai.usage.reasoning.output_tokens": int64(0),
		"gen_ai.conversation.id": present, "error.type": absent, "tradewind.cost_usd": 0.00021, "tradewind.cost_status": "final",
		"tradewind.org": "acme", "tradewind.team": "ml",
	}
	routeAttrs = map[string]any{
		"tradewind.decision.id": present, "tradewind.decision.reason": "pinned", "tradewind.decision.strategy": "balanced",
		"tradewind.decision.policy": present, "tradewind.decision.router_version": present, "tradewind.decision.propensity": 1.0,
		"tradewind.decision.explored": false, "tradewind.decision.expected_quality": present, "tradewind.decision.expected_cost_usd": present,
		"tradewind.decision.candidates": int64(6), "tradewind.decision.filtered": present,
	}
	// unanswered takes away what only an answer has.
	unanswered = map[string]any{
		"gen_ai.response.id": absent, "gen_ai.response.model": absent, "gen_ai.response.finish_reasons": absent, "gen_ai.usage.input_tokens": absent,
		"gen_ai.usage.output_tokens": absent, "gen_ai.usage.cache_read.input_tokens": absent, "gen_ai.usage.cache_creation.input_tokens": absent,
		"gen_ai.usage.reasoning.output_tokens": absent,
	}
	attemptAttrs = with(answeredAttrs, map[string]any{"gen_ai.request.model": "small", "tradewind.cost_status": absent, "tradewind.attempt": int64(1)})
)

const sampling = `,"temperature":0.5,"top_p":0.9,"max_tokens":50,"seed":7,"stop":["END","STOP"]`

// TestTraces: what a collector gets of a whole answer, a stream, a failover, a failure, and a client that leaves.
func TestTraces(t *testing.T) {
	c := newCollector(t)
	s := traced(t, c, map[string]string{"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=lab"}, moodyConfig(t, ""))
	stream := map[string]any{"gen_ai.usage.output_tokens": int64(3), "tradewind.cost_usd": 0.00004}
	failed := map[string]any{"error.type": "500", "gen_ai.request.model": "bad", "tradewind.cost_usd": 0.0}
	for i, test := range []struct {
		name, model, more string
		server            map[string]any
		calls             []map[string]any
		status            spanpb.Status_StatusCode
	}{
		{"whole", "lab/small", "", answeredAttrs, []map[string]any{attemptAttrs}, 0},
		{"stream", "lab/small", `,"stream":true`, with(answeredAttrs, stream), []map[string]any{with(attemptAttrs, stream)}, 0},
		{"failover", "lab/bad", `,"models":["lab/small"]`, with(answeredAttrs, map[string]any{"gen_ai.request.model": "lab/bad"}),
			[]map[string]any{with(with(attemptAttrs, unanswered), failed), with(attemptAttrs, map[string]any{"tradewind.attempt": int64(2)})}, 0},
		{"failure", "lab/bad", `,"tradewind":{"fallback":false}`,
			with(with(answeredAttrs, unanswered), map[string]any{"gen_ai.request.model": "lab/bad", "gen_ai.provider.name": absent, "error.type": "upstream_failed", "tradewind.cost_usd": 0.0}),
			[]map[string]any{with(with(attemptAttrs, unanswered), failed)}, spanpb.Status_STATUS_CODE_ERROR},
	} {
		t.Run(test.name, func(t *testing.T) {
			id := fmt.Sprintf("%s%02x", clientTrace[:30], i)
			resp, err := asksTraced(t.Context(), s, id, annKey, ask(test.model, "What is 17 times 23?", sampling+test.more))
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			spans := c.trace(t, id, 2+len(test.calls))
			top := spans[0]
			if top.Name != "chat "+test.model || top.Kind != spanpb.Span_SPAN_KIND_SERVER || hex.EncodeToString(top.ParentSpanId) != clientSpan ||
				top.TraceState != "shop=1" || top.Status.GetCode() != test.status {
				t.Errorf("the first span is %v", top.Span)
			}
			top.check(t, "the server's span", test.server)
			calls := test.calls
			for _, below := range spans[1:] {
				if string(below.ParentSpanId) != string(top.SpanId) || below.StartTimeUnixNano < top.StartTimeUnixNano || below.EndTimeUnixNano > top.EndTimeUnixNano {
					t.Errorf("%s is not within its parent: %v, %v", below.Name, below.Span, top.Span)
				}
				if below.Name == "route" {
					if below.Kind != spanpb.Span_SPAN_KIND_INTERNAL || below.attrs["tradewind.decision.id"] != resp.Header.Get("X-Tradewind-Decision-Id") {
						t.Errorf("the decision's span is %v", below.Span)
					}
					below.check(t, "the decision's span", routeAttrs)
					continue
				}
				if below.Kind != spanpb.Span_SPAN_KIND_CLIENT || below.Name != "chat "+calls[0]["gen_ai.request.model"].(string) {
					t.Errorf("an attempt's span is %v", below.Span)
				}
				below.check(t, "an attempt's span", calls[0])
				calls = calls[1:]
			}
			if len(calls) > 0 {
				t.Errorf("%d attempts have no span", len(calls))
			}
		})
	}
	t.Run("client gone", func(t *testing.T) { clientGone(t, c, s) })
	if c.resource["service.name"] != "tradewind" || c.resource["deployment.environment.name"] != "lab" || c.resource["telemetry.sdk.name"] != "opentelemetry" {
		t.Errorf("the resource is %v", c.resource)
	}
	s.stop() // the last metrics are sent then
	if strings.Contains(string(c.raw), "17 times") || strings.Contains(string(c.raw), "391") {
		t.Error("the collector was sent text of a prompt or an answer")
	}
	checkPoints(t, c)
}

// clientGone leaves in the middle of a call.
func clientGone(t *testing.T, c *collector, s *service) {
	t.Helper()
	ctx, leave := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, leave)
	if _, err := asksTraced(ctx, s, clientTrace, annKey, ask("lab/slow", "What is 17 times 23?", sampling)); err == nil {
		t.Fatal("lab/slow answered")
	}
	spans := c.trace(t, clientTrace, 3)
	gone := with(with(answeredAttrs, unanswered), map[string]any{"gen_ai.request.model": "lab/slow", "gen_ai.provider.name": absent, "error.type": "client_gone", "tradewind.cost_usd": present, "tradewind.cost_status": "estimated"})
	spans[0].check(t, "the server's span", gone)
	spans[2].check(t, "the attempt's span", with(with(attemptAttrs, unanswered), map[string]any{"gen_ai.request.model": "slow", "error.type": "cancelled", "tradewind.cost_usd": present}))
}

// checkPoints compares the metrics with those of the conventions.
func checkPoints(t *testing.T, c *collector) {
	t.Helper()
	always, maybe := []string{"gen_ai.operation.name"}, []string{"gen_ai.provider.name", "gen_ai.request.model", "error.type"}
	for name, unit := range map[string]string{
		"gen_ai.client.token.usage": "{token}", "gen_ai.client.operation.duration": "s", "gen_ai.server.request.duration": "s",
		"gen_ai.server.time_to_first_token": "s", "gen_ai.server.time_per_output_token": "s",
	} {
		if c.units[name] != unit || len(c.points[name]) == 0 {
			t.Errorf("%s has the unit %q and %d points, want %q", name, c.units[name], len(c.points[name]), unit)
		}
		must, may := always, maybe
		if name == "gen_ai.client.token.usage" {
			must = append(slices.Clone(always), "gen_ai.token.type")
		}
		for _, p := range c.points[name] {
			for _, label := range must {
				if p[label] == nil {
					t.Errorf("a point of %s lacks %s: %v", name, label, p)
				}
			}
			for label := range p {
				if !slices.Contains(must, label) && !slices.Contains(may, label) {
					t.Errorf("a point of %s has %s", name, label)
				}
			}
		}
	}
}

// A vendor is sent neither the client's trace nor ours.
func TestTracesEndHere(t *testing.T) {
	c := newCollector(t)
	got := make(chan http.Header, 1)
	v := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- r.Header
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, vendorAnswer)
	}))
	t.Cleanup(v.Close)
	s := traced(t, c, nil, write(t, "tradewind.yaml", strings.ReplaceAll((&vendor{Server: v}).provider(), "${LAB_KEY}", "sk-lab-0123456789")))
	resp, err := asksTraced(t.Context(), s, clientTrace, "any", ask("lab/small", "hi", ""))
	if err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
	_ = resp.Body.Close()
	header := <-got
	spans := c.trace(t, clientTrace, 3)
	text, _ := json.Marshal(header)
	for _, s := range spans {
		if strings.Contains(string(text), hex.EncodeToString(s.SpanId)) {
			t.Errorf("the vendor was sent the id of %s: %s", s.Name, text)
		}
	}
	if strings.Contains(strings.ToLower(string(text)), "trace") || strings.Contains(string(text), clientTrace) {
		t.Errorf("the vendor was sent a trace: %s", text)
	}
}

// Without a collector's address nothing is sent and nothing is listed; with one that refuses or hangs requests go on, what is
// lost is counted, and the end does not wait for ever.
func TestCollectorAway(t *testing.T) {
	t.Run("none is named", func(t *testing.T) {
		c := newCollector(t)
		t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", c.URL+"/v1/traces")
		s := start(t, nil, "--config", moodyConfig(t, ""))
		s.call("POST", "/v1/chat/completions", annKey, ask("lab/small", "hi", "")).want(t, 200, nil)
		s.stop()
		if c.requests != 0 {
			t.Errorf("the collector was called %d times", c.requests)
		}
	})
	for name, test := range map[string]struct {
		set     func(*collector)
		dropped int
	}{
		"refuses": {func(c *collector) { c.down = true }, 40 * 3}, "hangs": {func(c *collector) { c.hang = true }, 40*3 - 16},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCollector(t)
			test.set(c)
			s := traced(t, c, map[string]string{"OTEL_BSP_MAX_QUEUE_SIZE": "16", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "8", "OTEL_TRACES_SAMPLER": "always_on"}, moodyConfig(t, ""))
			for range 40 {
				s.call("POST", "/v1/chat/completions", annKey, ask("lab/small", "hi", "")).want(t, 200, nil)
			}
			lost := func() (dropped, waiting int) {
				for line := range strings.SplitSeq(string(s.call("GET", "/metrics", "", "").body), "\n") {
					_, _ = fmt.Sscanf(line, `tradewind_log_dropped_total{kind="trace"} %d`, &dropped)
					_, _ = fmt.Sscanf(line, `tradewind_log_queue_length{kind="trace"} %d`, &waiting)
				}
				return dropped, waiting
			}
			dropped, waiting := lost()
			for range 6000 { // a minute
				if dropped >= test.dropped {
					break
				}
				time.Sleep(10 * time.Millisecond)
				dropped, waiting = lost()
			}
			if dropped != test.dropped || dropped+waiting != 40*3 || waiting > 16 {
				t.Errorf("%d spans are dropped and %d wait, want %d of 120 dropped and at most 16 waiting", dropped, waiting, test.dropped)
			}
			begun := time.Now()
			s.stop()
			if took := time.Since(begun); took > time.Minute { // FlushMax and what else a shutdown does on a busy machine
				t.Errorf("the end took %v", took)
			}
			if log := s.stderr.String(); !strings.Contains(log, "OpenTelemetry") && !strings.Contains(log, "the last spans were not sent") {
				t.Errorf("nobody was told: %s", log)
			}
		})
	}
}

// What an operator sets wrongly is said at the start.
func TestTracesAreConfigured(t *testing.T) {
	for name, v := range map[string]string{"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json", "OTEL_RESOURCE_ATTRIBUTES": "no equals sign"} {
		t.Setenv(name, v)
		_, stderr, code := command(t, env{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", name: v}, "", "serve", "--listen", "127.0.0.1:0", "--data-dir", t.TempDir(), "--config", moodyConfig(t, ""))
		if code != 1 || !strings.Contains(stderr, name) {
			t.Errorf("%s=%s: exit code %d, %s", name, v, code, stderr)
		}
		t.Setenv(name, "")
	}
}
