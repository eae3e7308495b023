package simulate

import (
	"cmp"
	"hash/maphash"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func words(text string) []string {
	return strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) })
}

// TestPrompts reads 20,000 prompts: none names a family, none is empty, broken, padded or too long, and no slot was
// left over.
func TestPrompts(t *testing.T) {
	names := map[string]bool{}
	for _, f := range Families() {
		for _, part := range strings.Split(f, "_") {
			names[part] = true
		}
		names[f] = true
	}
	w := newWorld(t, Options{Seed: 6})
	for i := range int64(20_000) {
		task := w.Sample(i)
		if s := task.Text; s == "" || s != strings.TrimSpace(s) || !utf8.ValidString(s) || len(s) > 4000 || strings.ContainsAny(s, `\|`) {
			t.Fatalf("task %d of %s: %q", i, task.Family, s)
		}
		for _, word := range words(task.Text) {
			if names[word] {
				t.Fatalf("task %d of %s has the word %q: %q", i, task.Family, word, task.Text)
			}
		}
	}
}

// TestEveryAlternative writes every alternative of every family often enough that a letter recalled before anything was
// kept under it would panic.
func TestEveryAlternative(t *testing.T) {
	g, err := compile(grammarText)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for _, f := range families {
		for a, alt := range g.rules[g.names[f.name]] {
			for range 200 {
				w := writer{grammar: g, r: r, level: r.IntN(Levels)}
				if w.alternative(alt); len(w.out) == 0 {
					t.Fatalf("alternative %d of %s is empty", a, f.name)
				}
			}
		}
	}
}

// TestFamiliesOverlap compares the 200 most frequent words of each pair of families.
func TestFamiliesOverlap(t *testing.T) {
	counts := map[string]map[string]int{}
	w := newWorld(t, Options{Seed: 8})
	for i := range int64(15_000) {
		task := w.Sample(i)
		if counts[task.Family] == nil {
			counts[task.Family] = map[string]int{}
		}
		for _, word := range words(task.Text) {
			counts[task.Family][word]++
		}
	}
	top := map[string]map[string]bool{}
	for family, count := range counts {
		list := make([]string, 0, len(count))
		for word := range count {
			list = append(list, word)
		}
		slices.SortFunc(list, func(a, b string) int { return cmp.Or(count[b]-count[a], cmp.Compare(a, b)) })
		top[family] = map[string]bool{}
		for _, word := range list[:200] {
			top[family][word] = true
		}
	}
	var sum, least, pairs float64 = 0, 1, 0
	for i, a := range Families() {
		for _, b := range Families()[:i] {
			shared := 0
			for word := range top[a] {
				if top[b][word] {
					shared++
				}
			}
			jaccard := float64(shared) / float64(400-shared)
			sum, least, pairs = sum+jaccard, min(least, jaccard), pairs+1
		}
	}
	t.Logf("mean Jaccard of the top 200 words %.3f, least %.3f", sum/pairs, least)
	if mean := sum / pairs; mean < 0.35 || least < 0.2 {
		t.Errorf("mean Jaccard of the top 200 words %.3f, least %.3f: want at least 0.35 and 0.2", mean, least)
	}
}

// TestLengths holds that prompts are longer with the level, which is how it shows, and that families overlap: the
// median length of each lies between the 5th and 95th percentile of every other.
func TestLengths(t *testing.T) {
	lengths := map[string][]int{}
	var easy, hard moments
	w := newWorld(t, Options{Seed: 9})
	for i := range int64(15_000) {
		task := w.Sample(i)
		lengths[task.Family] = append(lengths[task.Family], len(task.Text))
		switch task.Level {
		case 0:
			easy.add(float64(len(task.Text)))
		case Levels - 1:
			hard.add(float64(len(task.Text)))
		}
	}
	if a, b := easy.sum/easy.n, hard.sum/hard.n; b < a+100 {
		t.Errorf("mean length of easy prompts %.0f, of hard ones %.0f", a, b)
	}
	for _, l := range lengths {
		slices.Sort(l)
	}
	for a, la := range lengths {
		for b, lb := range lengths {
			if m := la[len(la)/2]; m < lb[len(lb)/20] || m > lb[len(lb)*19/20] {
				t.Errorf("the median length %d of %s lies outside of %s: %d to %d", m, a, b, lb[len(lb)/20], lb[len(lb)*19/20])
			}
		}
	}
}

func TestDuplicates(t *testing.T) {
	const n, share = 100_000, 0.005
	w := newWorld(t, Options{Seed: 10})
	seed := maphash.MakeSeed()
	texts, ids := make(map[uint64]bool, n), make(map[string]bool, n)
	for i := range int64(n) {
		task := w.Sample(i)
		texts[maphash.String(seed, task.Text)], ids[task.ID] = true, true
	}
	if len(ids) != n {
		t.Errorf("ids: got %d, want %d", len(ids), n)
	}
	double := float64(n-len(texts)) / n
	t.Logf("%.3f %% duplicates", 100*double)
	if double > share {
		t.Errorf("duplicates: got %.3f %%, want at most %.1f %%", 100*double, 100*share)
	}
}

func TestCompileErrors(t *testing.T) {
	for text, want := range map[string]string{
		"a: x\na: y":        "twice",
		"no name here":      "no rule's name",
		"a: {b}\nb: x":      "no rule of this name stands above",
		"a: {a}":            "no rule of this name stands above",
		"a: {9-2}":          "range",
		"a: {1-x}":          "range",
		"a: {b":             "not closed",
		"a: x | y\nb: {a@}": "alternatives for",
		"a: x" + strings.Repeat("| y", 64) + "\nb: {a+}": "at most 64",
	} {
		if _, err := compile(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("compile(%q): got %v, want an error with %q", text, err, want)
		}
	}
}

func FuzzCompile(f *testing.F) {
	f.Add("a: x | y {2-9}\n  | {n}\\n\nb: {A:a} {A} {^a} {a+, } {a*}")
	f.Add("a: | {\n")
	f.Fuzz(func(t *testing.T, text string) {
		g, err := compile(text)
		if (g == nil) != (err != nil) && err == nil {
			t.Fatal("neither grammar nor error")
		}
	})
}
