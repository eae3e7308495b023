package serving

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/oklog/ulid/v2"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/rules"
)

const (
	// feedbackAge is how old a decision may be that feedback is taken for.
	feedbackAge = 30 * 24 * time.Hour
	// skewMax is how far clocks may be apart, ours of now and ours of before it was set among them.
	skewMax = 5 * time.Minute
)

// Handler routes every path of the main listener.
func (g *Gateway) Handler() http.Handler {
	gin.SetMode(gin.ReleaseMode)
	e := gin.New()
	e.HandleMethodNotAllowed, e.RedirectTrailingSlash, e.RedirectFixedPath = true, false, false
	e.Use(g.contain)
	e.NoRoute(g.notFound)
	e.NoMethod(func(c *gin.Context) {
		err := openai.NewError(openai.MethodNotAllowed, "%s is not allowed here", c.Request.Method)
		err.Allow = c.Writer.Header().Get("Allow")
		g.fail(c, err)
	})
	for _, r := range g.Routes() {
		e.Handle(r.Method, r.Path, r.handle)
		if r.Method == http.MethodGet { // load balancers like to ask without wanting the answer
			e.Handle(http.MethodHead, r.Path, r.handle)
		}
	}
	return e
}

// Route is one path of the main listener and what protects it. Every route stands in this one list.
type Route struct {
	Method, Path string
	// Key says that a key is asked for, Metered that money is held before a vendor is called.
	Key, Metered bool
	handle       gin.HandlerFunc
}

// Routes lists the paths.
func (g *Gateway) Routes() []Route {
	ok := func(c *gin.Context) { c.String(http.StatusOK, "ok\n") }
	routes := []Route{
		{Method: "POST", Path: "/v1/messages/count_tokens", Key: true, handle: g.authenticated(g.countTokens)},
		{Method: "POST", Path: "/v1/route", Key: true, handle: g.route},
		{Method: "POST", Path: "/v1/feedback", Key: true, handle: g.authenticated(g.feedback)},
		{Method: "GET", Path: "/v1/decisions/:id", Key: true, handle: g.authenticated(g.decision)},
		{Method: "POST", Path: "/v1/decisions/:id/replay", Key: true, handle: g.authenticated(g.replay)},
		{Method: "GET", Path: "/v1/usage", Key: true, handle: g.authenticated(g.usage)},
		{Method: "GET", Path: "/v1/models", Key: true, handle: g.authenticated(g.models)},
		{Method: "GET", Path: "/v1/models/*id", Key: true, handle: g.authenticated(g.model)},
		{Method: "GET", Path: "/healthz", handle: ok},
		{Method: "GET", Path: "/readyz", handle: g.ready},
		{Method: "GET", Path: "/health/liveliness", handle: ok},
		{Method: "GET", Path: "/health/readiness", handle: g.ready},
	}
	for _, s := range surfaces() {
		s := g.surfaces[s.dialect]
		routes = append(routes, Route{Method: "POST", Path: s.path, Key: true, Metered: true, handle: func(c *gin.Context) { g.answer(s, c.Writer, c.Request) }})
	}
	if g.o.MetricsOpen {
		metrics := g.o.Metrics.Handler()
		routes = append(routes, Route{Method: "GET", Path: "/metrics", handle: gin.WrapH(metrics)})
	}
	return routes
}

// contain keeps a panic in its request. A round contains its own, because it has money to end.
func (g *Gateway) contain(c *gin.Context) {
	defer func() {
		if p := recover(); p != nil {
			g.o.Log.Error("panic in a request", "path", c.FullPath(), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			if !c.Writer.Written() {
				g.fail(c, openai.NewError(openai.InternalError, "internal error"))
			}
		}
	}()
	patiently(c.Writer, c.Request)
	c.Next()
}

// named gives the answer its request id.
func (g *Gateway) named(c *gin.Context) string {
	id := requestID(c.GetHeader("X-Request-Id"), newRoundID(g.o.Now()))
	c.Header("X-Request-Id", id)
	return id
}

// authenticated asks for a key before the handler.
func (g *Gateway) authenticated(next func(*gin.Context, *governance.Principal)) gin.HandlerFunc {
	return func(c *gin.Context) {
		g.named(c)
		p, err := g.live.Load().Auth.Authenticate(c.Request.Header)
		if err != nil {
			g.fail(c, authError(err))
			return
		}
		next(c, p)
	}
}

// fail answers an error outside of a round.
func (g *Gateway) fail(c *gin.Context, err error) {
	id := c.Writer.Header().Get("X-Request-Id")
	if id == "" {
		id = g.named(c)
	}
	g.failing(c.Request.URL.Path)(c.Writer, g.hush(err), id, "")
}

func (g *Gateway) notFound(c *gin.Context) {
	path := c.Request.URL.Path
	err := openai.NewError(openai.NotFound, "there is nothing at %s %.200q", c.Request.Method, path)
	if strings.HasPrefix(path, "/v1/v1/messages") {
		err.Message += "; the base URL of an Anthropic client ends before /v1"
	} else if strings.HasPrefix(path, "/v1/v1/") {
		err.Message += "; the client's base URL should end in /v1 once"
	} else if path == "/chat/completions" || path == "/models" {
		err.Message += "; the client's base URL should end in /v1"
	} else if near := g.nearPath(path); near != "" {
		err.Message += "; did you mean " + near + "?"
	}
	g.fail(c, err)
}

// pathEdits is how far a path may be from the one that was meant.
const pathEdits = 3

// nearPath is the path that may have been meant, or "".
func (g *Gateway) nearPath(path string) string {
	if len(path) > openai.NameMax {
		return ""
	}
	best, edits := "", pathEdits+1
	for _, r := range g.Routes() {
		if strings.ContainsAny(r.Path, ":*") {
			continue
		}
		if strings.HasSuffix(path, r.Path) {
			return r.Path
		}
		if n := catalog.Edits(path, r.Path); n < edits {
			best, edits = r.Path, n
		}
	}
	return best
}

// unwrittenFor is how long a process that could not journal a decision says that it is not ready. Then it asks for traffic again,
// because only a request can show that the disk is well.
const unwrittenFor = 5 * time.Second

func (g *Gateway) ready(c *gin.Context) {
	switch at := g.unwritten.Load(); {
	case g.closing.Load():
		c.String(http.StatusServiceUnavailable, "draining\n")
	case at != 0 && g.o.Now().UnixNano()-at < int64(unwrittenFor):
		c.String(http.StatusServiceUnavailable, "the journal cannot be written\n")
	default:
		c.String(http.StatusOK, "ready\n")
	}
}

// models lists what the key may use.
func (g *Gateway) models(c *gin.Context, p *governance.Principal) {
	c.JSON(http.StatusOK, g.listOf(p))
}

// listOf is what a key may name as model: the auto names, its arms, and the aliases that stand for one of them.
func (g *Gateway) listOf(p *governance.Principal) openai.ModelList {
	arms := g.armsOf(p)
	list := openai.NewModelList(arms, g.started)
	aliases := g.live.Load().Aliases
	for _, alias := range slices.Sorted(maps.Keys(aliases)) {
		var ids []string
		for i := range arms {
			if slices.ContainsFunc(aliases[alias], func(name string) bool { return named(&arms[i], name) }) {
				ids = append(ids, string(arms[i].ID))
			}
		}
		if len(ids) > 0 && !slices.ContainsFunc(list.Data, func(m openai.Model) bool { return m.ID == alias }) {
			list.Data = append(list.Data, openai.NewAlias(alias, ids, g.started))
		}
	}
	return list
}

func (g *Gateway) armsOf(p *governance.Principal) []catalog.Arm {
	var arms []catalog.Arm
	var d rules.Demands
	l := g.live.Load()
	l.rules.For(&d, &rules.Request{Principal: p})
	for i := range l.Arms {
		if ok, _ := p.Arm(l.Arms[i].ID); ok && !d.Barred(i) {
			arms = append(arms, l.Arms[i])
		}
	}
	return arms
}

func (g *Gateway) model(c *gin.Context, p *governance.Principal) {
	id := strings.TrimPrefix(c.Param("id"), "/")
	list := g.listOf(p).Data
	for _, m := range list {
		if m.ID == id {
			c.JSON(http.StatusOK, m)
			return
		}
	}
	var served []string
	for _, m := range list {
		served = append(served, m.ID)
	}
	g.fail(c, openai.NewError(openai.ModelNotFound, "the model %.128q is not served here%s", id, openai.DidYouMean(id, served)))
}

// route decides and calls nobody: no hold, no journal, no draw.
func (g *Gateway) route(c *gin.Context) {
	surface, err := g.asked(c)
	if err != nil {
		g.fail(c, err)
		return
	}
	r := g.begin(surface, c.Writer, c.Request)
	defer r.recycle()
	defer func() { r.place.Leave() }()
	for _, station := range []func() error{r.authenticate, r.enter, r.decode, r.admit} {
		if err = station(); err != nil {
			break
		}
	}
	defer r.grant.Release()
	if err == nil {
		r.extract()
		err = r.propose()
	}
	if err != nil {
		r.head()
		openai.WriteError(c.Writer, g.hush(err), r.requestID, string(r.id))
		return
	}
	r.choose(r.proposed.Best)
	r.head()
	e := Explain(&r.decision, nil)
	e.DryRun = true
	c.JSON(http.StatusOK, e)
}

// mayRead lets a key see its own rounds and those of its team.
func mayRead(p *governance.Principal, d *datasets.Decision) bool {
	return p.KeyID == d.KeyID || p.Team != "" && p.Team == d.Team && p.Org == d.Org
}

// feedback takes a score for a decision. The round may be sealed long since: what the key may not see is dropped when
// the two are joined.
func (g *Gateway) feedback(c *gin.Context, p *governance.Principal) {
	f, err := g.readFeedback(c.Request)
	if err != nil {
		g.fail(c, err)
		return
	}
	f.KeyID, f.At = p.KeyID, datasets.Instant(g.o.Now())
	made, err := roundTime(f.RoundID)
	if err != nil {
		g.fail(c, unknownDecision(f.RoundID))
		return
	}
	if made.After(f.At.Add(skewMax)) {
		g.fail(c, unknownDecision(f.RoundID))
		return
	}
	if f.At.Sub(made) > feedbackAge {
		g.fail(c, openai.NewError(openai.DecisionExpired, "the decision is older than 30 days"))
		return
	}
	if d, o, found := g.o.Journal.Recent(f.RoundID); found {
		if !mayRead(p, d) {
			g.fail(c, unknownDecision(f.RoundID))
			return
		}
		if o != nil {
			if meter := g.live.Load().meters[o.Served]; meter != nil { // a journal may know arms that are no longer served
				meter.Scored(f.Source, f.Score)
			}
		}
	}
	if err := g.o.Journal.AppendFeedback(c.Request.Context(), f); err != nil {
		e := openai.NewError(openai.StoreUnavailable, "the feedback cannot be written now")
		e.RetryAfter = time.Second
		g.fail(c, e)
		return
	}
	c.JSON(http.StatusAccepted, gin.H{"accepted": true})
}

// unknownDecision is the refusal of an id that nothing is kept under. Every error has one, and those before a decision lead here.
func unknownDecision(id datasets.RoundID) error {
	return openai.NewError(openai.NotFound, "no decision %.64q is known; requests that were refused before a model was chosen are not kept", id)
}

// roundTime is when a round began, from its id.
func roundTime(id datasets.RoundID) (time.Time, error) {
	text, ok := strings.CutPrefix(string(id), "rnd_")
	if !ok {
		return time.Time{}, errors.New("serving: not a round id")
	}
	u, err := ulid.ParseStrict(text)
	if err != nil {
		return time.Time{}, err
	}
	return ulid.Time(u.Time()), nil
}
