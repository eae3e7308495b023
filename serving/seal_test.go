package serving_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/ledger"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/quota"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// TestSealer: rounds and feedback reach the Parquet log once, after a closed segment, after the interval and at the end,
// and a log that cannot be written loses nothing.
func TestSealer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, setup{unaudited: true}) // the sealer empties the journal that an audit reads
		dir := filepath.Join(t.TempDir(), "log")
		log := must(datasets.OpenLog(dir, datasets.LogOptions{}))(t)
		closed := make(chan struct{}, 1)
		sealed := 0
		s := &serving.Sealer{Journal: w.journal, Log: log, Closed: closed, Logger: slog.New(slog.NewTextHandler(w.log, nil)), Sealed: func() { sealed++ }}
		ctx, cancel := context.WithCancel(t.Context())
		var done sync.WaitGroup
		done.Go(func() { s.Run(ctx) })
		want := map[datasets.RoundID]bool{}
		ask := func() {
			a := w.chat(ask("auto", "")).wantOK()
			want[a.round()] = true
			w.do("POST", "/v1/feedback", `{"decision_id":"`+string(a.round())+`","score":1}`)
		}
		ask()
		if err := w.journal.Rotate(); err != nil {
			t.Fatal(err)
		}
		closed <- struct{}{}
		synctest.Wait()
		if sealed != 1 {
			t.Errorf("%d segments sealed after one was closed", sealed)
		}
		ask()
		time.Sleep(10*time.Minute + time.Second)
		synctest.Wait()
		if sealed != 2 {
			t.Errorf("%d segments sealed after the interval, want 2", sealed)
		}
		ask()
		cancel()
		done.Wait()
		broken := *s
		broken.Log = must(datasets.OpenLog(dir, datasets.LogOptions{ReadOnly: true}))(t)
		if err := broken.Finish(t.Context()); err == nil {
			t.Error("sealed into a log that cannot be written")
		}
		if err := s.Finish(t.Context()); err != nil {
			t.Fatal(err)
		}
		n := 0
		err := log.Rounds(t.Context(), func(rounds []datasets.Round) error {
			for i := range rounds {
				if n++; !want[rounds[i].Decision.RoundID] || rounds[i].Outcome.Status != datasets.Completed {
					t.Errorf("round %+v", rounds[i])
				}
			}
			return nil
		})
		feedback := must(log.LastFeedback(t.Context()))(t)
		if err != nil || n != 3 || len(feedback) != 3 {
			t.Errorf("%d rounds and %d scores in the log (%v), want 3 and 3", n, len(feedback), err)
		}
	})
}

// TestSealerKeepsDamage: what can be read of a damaged segment is sealed, and the segment is kept and named.
func TestSealerKeepsDamage(t *testing.T) {
	w := newWorld(t, setup{unaudited: true})
	log := must(datasets.OpenLog(filepath.Join(t.TempDir(), "log"), datasets.LogOptions{}))(t)
	for range 5 {
		w.chat(ask("auto", "")).wantOK()
	}
	segments := must(filepath.Glob(filepath.Join(w.dir, "*.journal")))(t)
	text := must(os.ReadFile(segments[0]))(t)
	text[len(text)-3] ^= 1 // of the last outcome
	if err := os.WriteFile(segments[0], text, 0o600); err != nil {
		t.Fatal(err)
	}
	s := &serving.Sealer{Journal: w.journal, Log: log, Logger: slog.New(slog.NewTextHandler(w.log, nil))}
	if err := s.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := 0
	err := log.Rounds(t.Context(), func(rounds []datasets.Round) error { n += len(rounds); return nil })
	if kept, _ := os.ReadFile(segments[0] + ".damaged"); n != 4 || err != nil || !bytes.Equal(kept, text) {
		t.Errorf("%d rounds were sealed (%v), %d bytes kept, want four rounds and the segment as it is", n, err, len(kept))
	}
	if !strings.Contains(w.log.String(), "a journal segment is damaged") {
		t.Errorf("nobody was told: %s", w.log)
	}
}

// TestSealerInHaste: a child yields to requests until segments pile up.
func TestSealerInHaste(t *testing.T) {
	for range 2 { // the codec's pool may hold decoders that were made in the bubble of another test
		runtime.GC()
	}
	w := newWorld(t, setup{unaudited: true})
	log := must(datasets.OpenLog(filepath.Join(t.TempDir(), "log"), datasets.LogOptions{}))(t)
	defer log.Close()
	for range 20 {
		w.chat(ask("auto", "")).wantOK()
		if err := w.journal.Rotate(); err != nil {
			t.Fatal(err)
		}
	}
	var urgent []bool
	s := &serving.Sealer{Journal: w.journal, Log: log, Logger: slog.New(slog.DiscardHandler), Prepare: func(_ context.Context, j serving.SealJob) (serving.Prepared, error) {
		urgent = append(urgent, j.Urgent)
		return j.Do()
	}}
	if err := s.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(urgent); n != 20 || !urgent[0] || !urgent[3] || urgent[4] || urgent[19] {
		t.Errorf("%d jobs, in haste %v, want the first 4 of 20", n, urgent)
	}
}

// TestPanicsOutsideOfRounds: other handlers contain theirs too.
func TestPanicsOutsideOfRounds(t *testing.T) {
	var fired bool
	w := newWorld(t, setup{panics: true, options: serving.Options{Now: func() time.Time {
		if fired {
			fired = false
			panic("scripted")
		}
		return time.Now()
	}}})
	fired = true
	w.do("GET", "/v1/models", "").wantError(500, openai.InternalError)
	w.do("GET", "/v1/models", "").wantOK()
	if !strings.Contains(w.log.String(), "scripted") {
		t.Errorf("the log is silent: %s", w.log)
	}
}

func TestNewRefuses(t *testing.T) {
	good := func() (o serving.Options) {
		w := newWorld(t, setup{})
		o.Arms, o.Ledger, o.Books, o.Journal, o.Metrics, o.Auth = threeArms(), w.books, w.books, w.journal, w.metrics, w.auth
		o.Router = must(serving.NewRouter(o.Arms, nil))(t)
		o.Pool = must(upstream.New(upstream.Options{}))(t)
		o.Quota = must(quota.New(quota.Options{}))(t)
		return o
	}
	if _, err := serving.New(good()); err != nil {
		t.Fatal(err)
	}
	for want, damage := range map[string]func(*serving.Options){
		"Journal":          func(o *serving.Options) { o.Journal = nil },
		"Epsilon":          func(o *serving.Options) { o.Epsilon = 1.5 },
		`strategy "cheap"`: func(o *serving.Options) { o.Strategy = "cheap" },
		`strategy "cheapest"`: func(o *serving.Options) {
			o.Auth = must(governance.New(governance.Options{Keys: []governance.KeyConfig{{Key: keyA, Strategy: "cheapest"}}}))(t)
		},
		"scripted": func(o *serving.Options) { o.Books = brokenBooks{} },
	} {
		o := good()
		damage(&o)
		if _, err := serving.New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if _, err := serving.NewRouter(nil, nil); err == nil {
		t.Error("a router without arms")
	}
	if r := must(serving.NewRouter(threeArms(), nil))(t); r.Fallback() != "one/cheap" {
		t.Errorf("fallback %s, want the cheapest of the best tier", r.Fallback())
	}
	arms := append(threeArms(), catalog.Arm{ID: "one/unpriced", Tier: catalog.TierFrontier})
	if r := must(serving.NewRouter(arms, nil))(t); r.Fallback() != "one/cheap" {
		t.Errorf("fallback %s, which may not serve where cost counts", r.Fallback())
	}
}

// TestSentence: the decision says in words why, whatever the reason.
func TestSentence(t *testing.T) {
	w := newWorld(t, setup{arms: peers(2), providers: map[string]upstream.Provider{"peer": &vendor{}}, options: serving.Options{Settings: serving.Settings{Epsilon: 0.5}, Uniform: func() float64 { return 0.99 }}})
	w.chat(ask("peer/b", "")).wantOK() // from then on a latency is known
	for body, want := range map[string]string{
		ask("auto", ""):   "this round explores (probability 0.2500)",
		ask("peer/b", ""): "chosen: peer/b because the request names it",
		ask("auto:quality", `,"tradewind":{"explore":false}`): "the highest estimated quality",
		ask("auto:latency", `,"tradewind":{"explore":false}`): "the fastest",
		ask("auto:availability", ""):                          "more reliably",
		ask("auto:cost", `,"tradewind":{"explore":false}`):    "it gives the most quality for its forecast cost; the next best was peer/b, 0 dollars more for +0.000 quality",
		ask("auto", `,"tradewind":{"deny":["peer/a"]}`):       "every other model was filtered",
		ask("auto", `,"tradewind":{"quality_floor":0.999}`):   "no model clears the quality floor",
	} {
		a := w.chat(body).wantOK()
		shown := w.do("GET", "/v1/decisions/"+string(a.round()), "").wantOK()
		if got, _ := shown.get("sentence").(string); !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
	}
}

// brokenBooks is a ledger that cannot be reached at the start.
type brokenBooks struct{ ledger.Books }

func (brokenBooks) SetLimit(context.Context, ledger.AccountID, ledger.Limit) error {
	return errScripted
}
