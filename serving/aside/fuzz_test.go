package aside

import "testing"

func FuzzTalk(f *testing.F) {
	f.Add([]byte(`{"format":1,"seal":{"segment":"j/00000000000000000001.journal","log":"log","name":".tradewind-part-1"}}`))
	f.Add([]byte(`{"format":1,"merge":{"log":"log","name":".tradewind-part-1","run":[{"seq":1,"kind":"rounds","path":"p","prev":""}]}}`))
	f.Add([]byte(`{"sealed":{"parts":[{"temp":".tradewind-part-1-0.tmp","part":{"seq":0,"kind":"rounds","prev":""}}],"rows":1,"bookings":[{"key":"k","at":"2026-01-02T15:04:05Z","cost_usd":0.1}],"through":1}}`))
	f.Add([]byte(`{"error":"no"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if q, err := parseRequest(text); err == nil && (q.Format != format || (q.Seal == nil) == (q.Merge == nil)) {
			t.Errorf("understood %+v", q)
		}
		if r, err := parseReply(text); err == nil && r.Error != "" {
			t.Errorf("took an error for an answer: %+v", r)
		}
	})
}
