package telemetry

import (
	"context"
	"net/http"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// Tracing tells OpenTelemetry of exchanges. It is asked once a request, at its end, so that a request knows nothing of spans;
// nil is off, and costs nothing.
type Tracing struct {
	o      TracingOptions
	tracer trace.Tracer

	tokens                                   metric.Int64Histogram
	operation, request, firstToken, perToken metric.Float64Histogram
}

// TracingOptions are where spans and metrics go, and what removes secrets from what clients and vendors have written.
type TracingOptions struct {
	Traces  trace.TracerProvider
	Metrics metric.MeterProvider
	Redact  func(string) string
}

// Bounds of what a client or a vendor may put on a span, and of what is searched for secrets before it is cut to that.
const (
	attributeBytesMax = 256
	searchedBytesMax  = 4 * attributeBytesMax
	listMax           = 8
)

// NewTracing makes the instruments.
func NewTracing(o TracingOptions) (*Tracing, error) {
	t := &Tracing{o: o, tracer: o.Traces.Tracer(instrumentationID)}
	m := o.Metrics.Meter(instrumentationID)
	var err error
	if t.tokens, err = m.Int64Histogram(metricTokens, metric.WithUnit("{token}"),
		metric.WithDescription("Tokens that a provider counted."),
		metric.WithExplicitBucketBoundaries(1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)); err != nil {
		return nil, err
	}
	for _, h := range [...]struct {
		to         *metric.Float64Histogram
		name, help string
		buckets    []float64
	}{
		{&t.operation, metricOperation, "Whole calls of a provider.", requestBuckets},
		{&t.request, metricRequest, "Whole requests, as the client saw them.", requestBuckets},
		{&t.firstToken, metricFirstToken, "From the request to the first content.", requestBuckets},
		{&t.perToken, metricPerToken, "Pace of streams after the first content.", tokenBuckets},
	} {
		if *h.to, err = m.Float64Histogram(h.name, metric.WithUnit("s"), metric.WithDescription(h.help),
			metric.WithExplicitBucketBoundaries(h.buckets...)); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// Exchange is one request with all that came of it. Text of prompts and answers is no part of it.
type Exchange struct {
	// Surface is where it came in, Address our own host, and Header the client's, for the trace that it continues.
	Surface, Address string
	Header           http.Header
	Began, Ended     time.Time
	// Asked is nil where the request could not be read, Route where nothing was decided.
	Asked    *Asked
	Route    *Route
	Attempts []Call
	// Conversation is the hash of the session's key.
	Conversation string
	// Failed is the code of the error that the request ended with, Fault that it was not the client's.
	Failed     string
	Fault      bool
	Cost       float64
	CostStatus string
	By         Tenant
}

// Asked are the parameters of a request that a span tells. What is nil was not sent.
type Asked struct {
	Model             string
	Temperature, TopP *float64
	MaxTokens         int
	Seed              *int64
	Stop              []string
	Stream            bool
}

// Route is the decision.
type Route struct {
	From, To                              time.Time
	ID, Reason, Strategy, Policy, Version string
	Propensity                            float64
	Explored                              bool
	ExpectedQuality, ExpectedCost         float64
	Candidates, Filtered                  int
}

// Call is one attempt at an arm.
type Call struct {
	Provider, Model, Address string
	Began                    time.Time
	Took, FirstContent       time.Duration
	// Failed is the class of the failure or the HTTP status, empty for what went well.
	Failed string
	Cost   float64
	// Answer is what came back where the call answered.
	Answer *Answered
}

// Answered is what a provider said of its answer. Told says that the tokens are its own count.
type Answered struct {
	ID     string
	Finish []string
	Told   bool
	Tokens
}

// Tell makes the spans of an exchange and counts it.
func (t *Tracing) Tell(e *Exchange) {
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.HeaderCarrier(e.Header))
	asked := t.asked(e)
	name := operation(e.Surface)
	if e.Asked != nil {
		name += " " + t.clean(e.Asked.Model)
	}
	ctx, span := t.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(e.Began), trace.WithAttributes(asked...))
	if span.IsRecording() {
		t.describe(span, e)
		t.route(ctx, e)
		for i := range e.Attempts {
			t.attempt(ctx, e, i, asked)
		}
	}
	span.End(trace.WithTimestamp(e.Ended))
	t.count(ctx, e)
}

// asked are the attributes that the request and each call have.
func (t *Tracing) asked(e *Exchange) []attribute.KeyValue {
	all := []attribute.KeyValue{attribute.String(attrOperation, operation(e.Surface))}
	if e.Conversation != "" {
		all = append(all, attribute.String(attrConversation, e.Conversation))
	}
	a := e.Asked
	if a == nil {
		return all
	}
	all = append(all, attribute.String(attrRequestModel, t.clean(a.Model)))
	if a.Temperature != nil {
		all = append(all, attribute.Float64(attrTemperature, *a.Temperature))
	}
	if a.TopP != nil {
		all = append(all, attribute.Float64(attrTopP, *a.TopP))
	}
	if a.MaxTokens > 0 {
		all = append(all, attribute.Int(attrMaxTokens, a.MaxTokens))
	}
	if a.Seed != nil {
		all = append(all, attribute.Int64(attrSeed, *a.Seed))
	}
	if len(a.Stop) > 0 {
		all = append(all, attribute.StringSlice(attrStop, t.cleanAll(a.Stop)))
	}
	return all
}

// describe says what became of the request.
func (t *Tracing) describe(span trace.Span, e *Exchange) {
	span.SetAttributes(attribute.String(attrAddress, t.clean(e.Address)))
	if c := e.answer(); c != nil {
		span.SetAttributes(attribute.String(attrProvider, providerName(c.Provider)))
		span.SetAttributes(t.answered(c)...)
	}
	if e.CostStatus != "" {
		span.SetAttributes(attribute.Float64(attrCost, e.Cost), attribute.String(attrCostStatus, e.CostStatus))
	}
	span.SetAttributes(tenant(e)...)
	failed(span, e.Failed, e.Fault)
}

// answer is the call whose answer the client got, nil where there is none.
func (e *Exchange) answer() *Call {
	for i := range e.Attempts {
		if e.Attempts[i].Answer != nil {
			return &e.Attempts[i]
		}
	}
	return nil
}

func tenant(e *Exchange) (all []attribute.KeyValue) {
	if e.By.Org != "" {
		all = append(all, attribute.String(attrOrg, e.By.Org))
	}
	if e.By.Team != "" {
		all = append(all, attribute.String(attrTeam, e.By.Team))
	}
	return all
}

func failed(span trace.Span, why string, fault bool) {
	if why != "" {
		span.SetAttributes(attribute.String(attrErrorType, why))
	}
	if fault {
		span.SetStatus(codes.Error, why)
	}
}

// answered is what a call's answer tells.
func (t *Tracing) answered(c *Call) []attribute.KeyValue {
	a := c.Answer
	all := []attribute.KeyValue{
		attribute.String(attrResponseModel, c.Provider+"/"+c.Model),
		attribute.Int64(attrInput, a.In()), attribute.Int64(attrOutput, a.Out()),
		attribute.Int64(attrCacheRead, a.CacheRead), attribute.Int64(attrCacheWrite, a.CacheWrite), attribute.Int64(attrReasoning, a.Reasoning),
	}
	if a.ID != "" {
		all = append(all, attribute.String(attrResponseID, t.clean(a.ID)))
	}
	if len(a.Finish) > 0 {
		all = append(all, attribute.StringSlice(attrFinish, t.cleanAll(a.Finish)))
	}
	return all
}

// route makes the span of the decision.
func (t *Tracing) route(ctx context.Context, e *Exchange) {
	r := e.Route
	if r == nil {
		return
	}
	_, span := t.tracer.Start(ctx, spanRoute, trace.WithSpanKind(trace.SpanKindInternal), trace.WithTimestamp(r.From), trace.WithAttributes(
		attribute.String(attrDecision, r.ID), attribute.String(attrReason, r.Reason), attribute.String(attrStrategy, r.Strategy),
		attribute.String(attrPolicy, r.Policy), attribute.String(attrRouterVersion, r.Version), attribute.Float64(attrPropensity, r.Propensity),
		attribute.Bool(attrExplored, r.Explored), attribute.Float64(attrExpectedQuality, r.ExpectedQuality),
		attribute.Float64(attrExpectedCost, r.ExpectedCost), attribute.Int(attrCandidates, r.Candidates), attribute.Int(attrFiltered, r.Filtered),
	))
	span.End(trace.WithTimestamp(r.To))
}

// attempt makes the span of a call.
func (t *Tracing) attempt(ctx context.Context, e *Exchange, i int, asked []attribute.KeyValue) {
	c := &e.Attempts[i]
	began := c.Began
	if began.Before(e.Began) { // it was cut to microseconds
		began = e.Began
	}
	_, span := t.tracer.Start(ctx, operation(e.Surface)+" "+c.Model, trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(began), trace.WithAttributes(asked...))
	span.SetAttributes(
		attribute.String(attrProvider, providerName(c.Provider)), attribute.String(attrRequestModel, c.Model),
		attribute.Int(attrAttempt, i+1), attribute.Float64(attrCost, c.Cost),
	)
	if c.Address != "" {
		span.SetAttributes(attribute.String(attrAddress, c.Address))
	}
	span.SetAttributes(tenant(e)...)
	if c.Answer != nil {
		span.SetAttributes(t.answered(c)...)
	}
	failed(span, c.Failed, c.Failed != "" && c.Failed != Cancelled)
	span.End(trace.WithTimestamp(began.Add(c.Took)))
}

// Cancelled is the failure of a call that nobody wanted any more: the client had left, or another was quicker.
const Cancelled = "cancelled"

// count records the metrics. Their labels are names of arms and codes, and nothing that a client made up.
func (t *Tracing) count(ctx context.Context, e *Exchange) {
	op := attribute.String(attrOperation, operation(e.Surface))
	with := func(more ...attribute.KeyValue) metric.MeasurementOption {
		return metric.WithAttributeSet(attribute.NewSet(append(more, op)...))
	}
	of := func(c *Call, failed string) []attribute.KeyValue {
		all := make([]attribute.KeyValue, 0, 6)
		if c != nil {
			all = append(all, attribute.String(attrProvider, providerName(c.Provider)), attribute.String(attrRequestModel, c.Model))
		}
		if failed != "" {
			all = append(all, attribute.String(attrErrorType, failed))
		}
		return all
	}
	for i := range e.Attempts {
		c := &e.Attempts[i]
		t.operation.Record(ctx, c.Took.Seconds(), with(of(c, c.Failed)...))
		if a := c.Answer; a != nil && a.Told {
			t.tokens.Record(ctx, a.In(), with(append(of(c, ""), attribute.String(attrTokenType, tokenInput))...))
			t.tokens.Record(ctx, a.Out(), with(append(of(c, ""), attribute.String(attrTokenType, tokenOutput))...))
		}
	}
	c := e.answer()
	t.request.Record(ctx, e.Ended.Sub(e.Began).Seconds(), with(of(c, e.Failed)...))
	if c == nil || c.FirstContent == 0 || e.Asked == nil || !e.Asked.Stream {
		return
	}
	t.firstToken.Record(ctx, c.Began.Add(c.FirstContent).Sub(e.Began).Seconds(), with(of(c, "")...))
	if n := c.Answer.Out(); c.Answer.Told && n > 1 {
		t.perToken.Record(ctx, (c.Took-c.FirstContent).Seconds()/float64(n-1), with(of(c, "")...))
	}
}

// clean copies what may stand on a span of a text: without secrets, which clients too put where they do not belong.
func (t *Tracing) clean(s string) string {
	if s = s[:min(len(s), searchedBytesMax)]; t.o.Redact != nil {
		s = t.o.Redact(s)
	}
	s = s[:min(len(s), attributeBytesMax)]
	return strings.Clone(strings.ToValidUTF8(s, ""))
}

func (t *Tracing) cleanAll(all []string) []string {
	out := make([]string, min(len(all), listMax))
	for i := range out {
		out[i] = t.clean(all[i])
	}
	return out
}
