package datasets

import (
	"bytes"
	"context"
	"encoding/json"
	"testing"
	"time"
)

// fuzzText checks that whatever is read makes a table that could be written and read again.
func fuzzText(t *testing.T, data []byte, kind string) {
	b := newBuilder(nil, nil)
	b.startFile("fuzz", true)
	err := readText(context.Background(), bytes.NewReader(data), &textSource{name: "fuzz", lineMax: 1 << 16, take: b.add}, kind)
	if err != nil {
		return
	}
	table, err := b.table()
	if err != nil {
		return
	}
	for i := range table.Prompts {
		for j := range table.Arms {
			if s := table.Score[table.At(i, j)]; table.Observed(i, j) && !(s >= 0 && s <= 1) {
				t.Errorf("prompt %d, arm %d has the score %v", i, j, s)
			}
		}
	}
}

func FuzzCSV(f *testing.F) {
	f.Add([]byte("prompt_id,prompt,model,score,cost_usd\np,\"a \"\"b\"\"\nc\",m,0.5,\n"))
	f.Add([]byte("\ufeffprompt_id,prompt,model,score\np,t,m,1e-400\n"))
	f.Fuzz(func(t *testing.T, data []byte) { fuzzText(t, data, csvFile) })
}

func FuzzJSONL(f *testing.F) {
	f.Add([]byte(`{"prompt_id":"p","prompt":"t\u0000","model":"m","score":1,"cost_usd":null}` + "\n\n"))
	f.Add([]byte(`{"prompt_id":"p","case":[{"a":[]}],"prompt":"","model":"m","score":-0}`))
	f.Fuzz(func(t *testing.T, data []byte) { fuzzText(t, data, jsonlFile) })
}

// FuzzManifestLine: a line that is taken is the only way to write what it says, and no rows come from nowhere.
func FuzzManifestLine(f *testing.F) {
	at := time.Unix(1.7e9, 0).UTC()
	part := func(name string, rows int64) Part {
		return Part{Kind: KindRounds, Path: "rounds/dt=2023-11-14/hour=22/" + name + ".parquet", SHA256: sumHex(nil), Bytes: 1, Rows: rows, MinAt: at, MaxAt: at}
	}
	merged, dropped := part("c", 3), Part{Kind: KindRounds, Replaces: []int64{1, 2}}
	merged.Replaces = []int64{1, 2}
	start := func(t testing.TB) manifest { return manifestOf(t, part("a", 1), part("b", 2)) }
	for _, p := range []Part{part("x", 1), merged, dropped} {
		m := start(f)
		p.Seq, p.Prev = 3, m.head
		line, err := json.Marshal(p)
		if err != nil {
			f.Fatal(err)
		}
		if _, err := m.parse(line); err != nil {
			f.Fatal(err)
		}
		f.Add(line)
		f.Add(bytes.Replace(line, []byte("rounds/dt"), []byte("rounds/../../dt"), 1))
		f.Add(bytes.Replace(line, []byte("[1,2]"), []byte("[2,1]"), 1))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		m := start(t)
		p, err := m.parse(line)
		if err != nil {
			return
		}
		again, err := json.Marshal(p)
		if err != nil || !bytes.Equal(again, line) {
			t.Errorf("got %q, want %q", again, line)
		}
		before := rowsOf(&m)
		m.add(p, append(line, '\n'))
		want := before + p.Rows
		if len(p.Replaces) > 0 { // of lines 1 and 2, which hold as many rows
			want = before
			if p.Path == "" {
				for _, seq := range p.Replaces {
					want -= seq
				}
			}
		}
		if got := rowsOf(&m); got != want {
			t.Errorf("%d rows before %s, %d after it", before, line, got)
		}
	})
}

// manifestOf is a manifest of these lines, as it would be read from a file.
func manifestOf(t testing.TB, parts ...Part) manifest {
	t.Helper()
	m := newManifest()
	for i := range parts {
		parts[i].Seq, parts[i].Prev = m.lines+1, m.head
		line, err := json.Marshal(parts[i])
		if err == nil {
			_, err = m.parse(line)
		}
		if err != nil {
			t.Fatalf("line %d: %v", i+1, err)
		}
		m.add(parts[i], append(line, '\n'))
	}
	return m
}

func rowsOf(m *manifest) (n int64) {
	for _, p := range m.parts() {
		n += p.Rows
	}
	return n
}

// FuzzParquet: arbitrary bytes end in an error or a table, never in a panic.
func FuzzParquet(f *testing.F) {
	path := f.TempDir() + "/seed.parquet"
	writeTable(f, path, bigRows(2, 2))
	f.Add(readFile(f, path))
	f.Fuzz(func(t *testing.T, data []byte) {
		b := newBuilder(nil, nil)
		b.startFile("fuzz", false)
		row := int64(0)
		err := readParquet(context.Background(), bytes.NewReader(data), int64(len(data)), "fuzz", func(r *record) (string, string) {
			row++
			return b.add(r, row)
		}, func(int64) {})
		if err == nil && row != b.rows {
			t.Errorf("%d rows were passed and %d counted", row, b.rows)
		}
	})
}
