package datasets

// QuickDecision and QuickOutcome report whether ParseJSON reads b without encoding/json.
func QuickDecision(b []byte) bool {
	r := reader{b: b}
	r.decision()
	return r.end()
}

func QuickOutcome(b []byte) bool {
	r := reader{b: b}
	r.outcome()
	return r.end()
}
