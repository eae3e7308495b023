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

// FuzzManifestLine: a line that is taken is the only way to write what it says.
func FuzzManifestLine(f *testing.F) {
	p := Part{Seq: 1, Kind: KindRounds, Path: "rounds/dt=2026-01-02/hour=15/x.parquet", SHA256: sumHex(nil), Bytes: 1, Rows: 1,
		MinAt: time.Unix(1.7e9, 0).UTC(), MaxAt: time.Unix(1.7e9, 0).UTC()}
	line, err := json.Marshal(p)
	if err != nil {
		f.Fatal(err)
	}
	if _, err := parsePart(line, 1, ""); err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	f.Add(bytes.Replace(line, []byte("rounds/dt"), []byte("rounds/../../dt"), 1))
	f.Fuzz(func(t *testing.T, line []byte) {
		p, err := parsePart(line, 1, "")
		if err != nil {
			return
		}
		again, err := json.Marshal(p)
		if err != nil || !bytes.Equal(again, line) {
			t.Errorf("got %q, want %q", again, line)
		}
	})
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
