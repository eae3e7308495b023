package serving

import (
	"slices"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/openai"
)

// This file is what differs on the surfaces that are passed through: completions and embeddings go to the model that the
// client names, at any provider that has it, held, settled and journaled like chat. Nobody chooses a model for them, nothing
// judges their answers, and nothing is learned from them, so they never meet the trained router.

// direct says that a surface is passed through, and what two of those differ in.
type direct struct {
	// serves are the modes of the arms that may be asked.
	serves []catalog.Mode
	// unroutable is why nobody chooses a model.
	unroutable string
	// vectors says that an answer has no tokens of its own, and no text that a gate could read.
	vectors bool
}

// directPolicy is what a decision is logged under that nobody made.
const directPolicy = "direct"

func embeddings() *surface {
	return &surface{
		dialect: openai.Embeddings, path: "/v1/embeddings", fail: openai.WriteError, decode: plain(openai.DecodeEmbeddings), writer: directWriter,
		direct: &direct{
			serves: []catalog.Mode{catalog.ModeEmbedding}, vectors: true,
			unroutable: "vectors of one model mean nothing to another, so a choice between them would spoil an index",
		},
	}
}

func completions() *surface {
	return &surface{
		dialect: openai.Completions, path: "/v1/completions", fail: openai.WriteError, decode: plain(openai.DecodeCompletions), writer: directWriter,
		direct: &direct{
			serves:     []catalog.Mode{catalog.ModeChat, catalog.ModeCompletion},
			unroutable: "the router knows how models answer in chat, and not how they go on with a text; ask /v1/chat/completions",
		},
	}
}

// directWriter writes what a vendor says of itself in the client's dialect, with who answered and what it cost.
func directWriter(r *round, served catalog.ArmID) writer {
	w := &openai.StreamWriter{}
	if w.Served, w.Completions = served, r.surface.dialect == openai.Completions; r.wire != nil {
		w.IncludeUsage = r.wire.IncludeUsage
	}
	return w
}

// directory lists the arms of some modes by their names. It expects nothing of any of them.
func directory(arms []catalog.Arm, modes ...catalog.Mode) *Router {
	r := &Router{index: map[catalog.ArmID]int{}, fallback: -1}
	for i := range arms {
		if slices.Contains(modes, arms[i].Mode) {
			r.index[arms[i].ID] = len(r.arms)
			r.arms, r.place = append(r.arms, arms[i]), append(r.place, i)
			r.prioritized, r.weighted = r.prioritized || arms[i].Priority > 0, r.weighted || arms[i].Weight > 0
		}
	}
	return r
}

// undirected refuses what a request says of choosing or judging where nobody does.
func (r *round) undirected() error {
	d, o := r.surface.direct, &r.wire.Tradewind
	if d == nil {
		return nil
	}
	if r.wire.Target.Auto {
		return openai.BadParam("model", "must name a model for %s, and %.128q leaves the choice to the router: %s", r.surface.path, r.wire.Model, d.unroutable)
	}
	for _, f := range [...]struct {
		name string
		set  bool
	}{{"models", len(o.Models) > 0}, {"tradewind.quality_floor", o.QualityFloor > 0 || o.Reference != ""}, {"tradewind.gates", len(o.Gates) > 0}} {
		if f.set {
			e := openai.NewError(openai.UnsupportedRoutingField, "%s has no meaning for %s: %s", f.name, r.surface.path, d.unroutable)
			e.Param = f.name
			return e
		}
	}
	return nil
}

// ungated refuses a completion of whoever's answers must pass gates: those read chat, and nothing goes past them.
func (r *round) ungated() error {
	d := r.surface.direct
	if d == nil || r.gates == nil {
		return nil
	}
	r.gates = nil
	if d.vectors {
		return nil
	}
	return openai.NewError(openai.Forbidden, "the answers to this key pass gates, which read chat and nothing else: ask /v1/chat/completions")
}

// oneModel refuses a name that stands for several models, of which none may stand in for another.
func (r *round) oneModel(name string, arms []int) error {
	if r.surface.direct == nil {
		return nil
	}
	first := &r.router.arms[arms[0]]
	for _, i := range arms[1:] {
		a := &r.router.arms[i]
		if !sameModel(a, first) {
			return openai.BadParam("model", "must name one model for %s, and %.128q stands for %s and %s: %s", r.surface.path, name, first.ID, a.ID, r.surface.direct.unroutable)
		}
	}
	return nil
}

// elsewhere is the refusal of a model that is served under another path, nil where no arm of that name is.
func (r *round) elsewhere(param, name string) error {
	for _, m := range append([]string{name}, r.live.Aliases[name]...) {
		for i := range r.live.Arms {
			a := &r.live.Arms[i]
			if !named(a, m) || r.barred(a.ID) {
				continue
			}
			kind, path := "chat", "/v1/chat/completions"
			switch a.Mode {
			case catalog.ModeEmbedding:
				kind, path = "embeddings", "/v1/embeddings"
			case catalog.ModeCompletion:
				kind, path = "completions of a text", "/v1/completions"
			}
			return openai.BadParam(param, "names %s, which is for %s: ask %s", a.ID, kind, path)
		}
	}
	return nil
}

// named reports whether a name is the arm's own, or that of its model at any provider.
func named(a *catalog.Arm, name string) bool { return string(a.ID) == name || a.ID.Model() == name }

// guessTokens is about the tokens of so many bytes of an answer.
func (r *round) guessTokens(bytes int) int {
	if d := r.surface.direct; d != nil && d.vectors {
		return 0
	}
	return bytes / 4
}
