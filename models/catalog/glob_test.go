package catalog

import "testing"

func TestMatches(t *testing.T) {
	for _, test := range []struct {
		glob string
		id   ArmID
		want bool
	}{
		{"*", "a/b", true}, {"a/*", "a/b/c", true}, {"*/b", "a/b", true}, {"a*c*e", "x/abcde", true}, {"a*c*e", "x/abcd", false},
		{"a/b", "a/b", true}, {"a/b", "a/bc", false}, {"*b", "a/b", true}, {"a*a", "x/a", false}, {"", "x/a", false},
		{"gpt-*", "openai/gpt-5", true}, {"gpt-*", "openai/o3", false}, {"fireworks-ai/*", "fireworks-ai/accounts/fireworks/models/m", true},
	} {
		if got := test.id.Matches(test.glob); got != test.want {
			t.Errorf("%q on %s: got %v, want %v", test.glob, test.id, got, test.want)
		}
	}
	if ArmID("a/b").MatchesAny(nil) {
		t.Error("no glob names an arm")
	}
	for glob, valid := range map[string]bool{"*": true, "openai/gpt-5": true, "": false, "[ab]*": false, "gpt-?": false} {
		if err := ValidateGlob(glob); (err == nil) != valid {
			t.Errorf("ValidateGlob(%q) = %v", glob, err)
		}
	}
}
