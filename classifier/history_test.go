package classifier

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"slices"
	"strconv"
	"testing"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/features"
)

// remembering is a made-up model with the history of two teams.
func remembering() *Model {
	m := madeUp(5, 4, 2000)
	a, b := TeamOf("org", "a"), TeamOf("org", "b")
	m.Router.Teams = []Team{min(a, b), max(a, b)}
	m.Tables.History, m.Tables.HistoryVar = NewTable(2, 5), NewTable(2, 5)
	for at := range m.Tables.History.Data {
		m.Tables.History.Data[at], m.Tables.HistoryVar.Data[at] = float64(at)/20-.2, float64(at)/1e4
	}
	return m
}

// TestRecall: a team's history moves quality, score and gap by the same, widens their errors, and leaves the rest; of others
// there is none.
func TestRecall(t *testing.T) {
	m := remembering()
	c := ready(t, m)
	var x features.Context
	c.extractor.Extract(&x, features.NewPrompt(question))
	var was, is policy.Estimates
	c.Estimate(&was, &x)
	for _, nobody := range []Team{0, TeamOf("org", "c"), TeamOf("orga", ""), TeamOf("", "orga"), TeamOf("", "")} {
		if c.Estimate(&is, &x); c.Recall(&is, nobody) != nil || !reflect.DeepEqual(is, was) {
			t.Errorf("team %x has a history", nobody)
		}
	}
	for k, team := range m.Router.Teams {
		c.Estimate(&is, &x)
		history, f := c.Recall(&is, team), c.Fallback()
		variance := m.Tables.HistoryVar.Row(k)
		for j, d := range history {
			lead := d - history[f]
			if d != m.Tables.History.Row(k)[j] || math.Abs(is.Score[j]-was.Score[j]-d) > 1e-12 || math.Abs(is.Gap[j]-was.Gap[j]-lead) > 1e-12 ||
				is.Quality[j] != max(0, min(1, was.Quality[j]+d)) {
				t.Errorf("team %d, arm %d, history %v: quality %v, score %v, gap %v of %v, %v, %v", k, j, d, is.Quality[j], is.Score[j], is.Gap[j], was.Quality[j], was.Score[j], was.Gap[j])
			}
			if got, want := is.QualityErr[j]*is.QualityErr[j]-was.QualityErr[j]*was.QualityErr[j], variance[j]; math.Abs(got-want) > 1e-12 {
				t.Errorf("team %d, arm %d: the variance grows by %v, want %v", k, j, got, want)
			}
			if got, want := is.GapErr[j]*is.GapErr[j]-was.GapErr[j]*was.GapErr[j], variance[j]+variance[f]; j != f && math.Abs(got-want) > 1e-12 {
				t.Errorf("team %d, arm %d: the gap's variance grows by %v, want %v", k, j, got, want)
			}
		}
		if is.Gap[f] != 0 || is.GapErr[f] != 0 || !reflect.DeepEqual(is.Shifted, was.Shifted) || is.Complexity != was.Complexity {
			t.Errorf("team %d: got %+v of %+v", k, is, was)
		}
	}
	name := "an organization with a name of ordinary length"
	if n := testing.AllocsPerRun(100, func() { c.Recall(&is, TeamOf(name, "and a team in it")) }); n != 0 {
		t.Errorf("got %v allocations, want none", n)
	}
}

// TestHistoryInSections: it is read back as it was written, and a model without it has the bytes that it always had.
func TestHistoryInSections(t *testing.T) {
	m := remembering()
	ready(t, m)
	sections, err := m.Sections()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse(sections)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(again.Router.Teams, m.Router.Teams) || !reflect.DeepEqual(again.Tables.History, m.Tables.History) ||
		!reflect.DeepEqual(again.Tables.HistoryVar, m.Tables.HistoryVar) {
		t.Errorf("got teams %x and %+v", again.Router.Teams, again.Tables.History)
	}
	for _, name := range []string{"org", "\"a\""} {
		if bytes.Contains(sections[SectionRouter], []byte("\""+name+"\"")) {
			t.Errorf("%s stands in the artifact", name)
		}
	}
	plain := madeUp(5, 4, 2000)
	ready(t, plain)
	bare, err := plain.Sections()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(bare[SectionRouter], []byte("teams")) || bytes.Contains(bare[SectionTables], []byte("history")) {
		t.Error("a model without history says so")
	}
	for name, spoil := range map[string]func(m *Model){
		"out of order":      func(m *Model) { m.Router.Teams[0], m.Router.Teams[1] = m.Router.Teams[1], m.Router.Teams[0] },
		"twice":             func(m *Model) { m.Router.Teams[1] = m.Router.Teams[0] },
		"nobody":            func(m *Model) { m.Router.Teams[0] = 0 },
		"too many":          func(m *Model) { m.Router.Teams = make([]Team, HistoryTeamsMax+1) },
		"a row is missing":  func(m *Model) { m.Tables.History = NewTable(1, 5) },
		"out of range":      func(m *Model) { m.Tables.History.Data[3] = 1.5 },
		"no number":         func(m *Model) { m.Tables.History.Data[3] = math.NaN() },
		"negative variance": func(m *Model) { m.Tables.HistoryVar.Data[3] = -1e-9 },
	} {
		m := remembering()
		if spoil(m); !errors.Is(m.Validate(), ErrInvalid) {
			t.Errorf("%s: got %v", name, m.Validate())
		}
	}
}

// BenchmarkRecall is what a request of a team with a history costs more than any other.
func BenchmarkRecall(b *testing.B) {
	m := madeUp(10, 16, 20000)
	for k := range HistoryTeamsMax {
		m.Router.Teams = append(m.Router.Teams, TeamOf("acme", strconv.Itoa(k)))
	}
	slices.Sort(m.Router.Teams)
	m.Tables.History, m.Tables.HistoryVar = NewTable(HistoryTeamsMax, 10), NewTable(HistoryTeamsMax, 10)
	c := ready(b, m)
	var x features.Context
	c.extractor.Extract(&x, features.NewPrompt(question))
	var e policy.Estimates
	c.Estimate(&e, &x)
	b.ReportAllocs()
	for b.Loop() {
		if c.Recall(&e, TeamOf("acme", "100")) == nil {
			b.Fatal("the team has no history")
		}
	}
}
