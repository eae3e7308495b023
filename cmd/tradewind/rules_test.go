package main

import "testing"

// Names that stand for nothing are refused with their line, once it is known what is served.
func TestNamesOfNothing(t *testing.T) {
	const key = "sk-tw-0123456789abcdef"
	for name, c := range map[string]struct{ text, want string }{
		"alias of an alias": {"providers:\n  - {name: lab, base_url: \"http://127.0.0.1:1/v1\", models: [m]}\naliases:\n  x: y\n  y: [x, m]\n", "line 4: alias \"x\" stands for \"y\", which is an alias itself; an alias stands for models\n  line 5: alias \"y\" stands for \"x\", which is an alias"},
		"fallback":          {"fallbacks:\n  lab/m:\n    - none\n", `line 3: fallbacks of "lab/m" name "lab/m", which is not served`},
		"rule without aim":  {"rules:\n  - {pin: simulated/small}\n  - name: x\n    tags: {task: title}\n", `line 3: rules[1]: it does nothing`},
		"rule of nobody":    {"keys:\n  - {name: ann, key: " + key + "}\nrules:\n  - strategy: cost\n    keys:\n      - ann\n      - bob\n", `line 7: rules[0].keys[1]: no key has the name "bob"`},
		"rule of no team":   {"rules: [{strategy: cost, teams: [t]}]\n", `line 1: rules[0].teams[0]: no key is of team "t"; a team is written org/team`},
		"pin":               {"rules:\n  - pin: openai/none\n", `line 2: rules[0].pin: "openai/none" is not served`},
		"unknown policy":    {"routing:\n  policy: none\npolicies: {some: {strategy: cost}}\n", `line 2: there is no policy "none"`},
		"policy of a team":  {"teams:\n  - {name: t, org: o, policy: none}\nkeys:\n  - {key: " + key + ", org: o, team: t}\n", `line 2: there is no policy "none"`},
		"missing arm":       {"policies:\n  p:\n    strategy: cost\n    deny: [\"*/free\", openai/none]\n", `line 4: policies.p.deny[1]: "openai/none" is not served`},
		"split":             {"policies:\n  p:\n    split: [{policy: q, percent: 60}]\n  q: {}\n", `policies.p.split: 1 parts of 60 % in all`},
		"key of a policy":   {"policies: {p: {stratgy: cost}}\n", `line 1: unknown key "stratgy"; did you mean strategy?`},
		"target of money":   {"policies:\n  p:\n    target:\n      cost_usd: {amount: 5, per: day}\n", `line 4: policies.p.target: the money of a day is that of a key, a team or an organization`},
		"target of both":    {"policies:\n  p: {strategy: cost}\n  q:\n    strategy: cost\n    target: {quality: 0.9, cost_usd: {amount: 5, per: request}}\n", `line 5: policies.q.target: target: it is of quality or of cost`},
		"target of quality": {"policies:\n  p:\n    strategy: quality\n    target: {quality: 0.9}\n", `line 4: policies.p.target: strategy quality keeps all`},
		"no such effort":    {"policies:\n  p:\n    effort: hihg\n", `line 3: `},
		"effort of none":    {"policies:\n  p:\n    strategy: cost\n    effort: high\n", `line 4: policies.p.effort: no model that it allows reasons`},
		"effort":            {"providers:\n  - name: lab\n    base_url: http://127.0.0.1:1/v1\n    models:\n      - name: m\n        efforts: [low, hihg]\n", `line 6: efforts: effort "hihg" is none of none, minimal, low, medium, high, xhigh`},
		"no reasoning":      {"providers:\n  - {name: lab, base_url: \"http://127.0.0.1:1/v1\", models: [{name: m, efforts: [low]}]}\n", "provider lab: lab/m does not reason, so it has no efforts"},
		"effort twice":      {"providers:\n  - {name: lab, base_url: \"http://127.0.0.1:1/v1\", models: [{name: m, supports: [reasoning], efforts: [low, low]}]}\n", "lab/m has the effort low twice"},
	} {
		file := write(t, "tradewind.yaml", c.text)
		_, artifact := shared(t)
		_, stderr, code := command(t, nil, "", "serve", "--config", file, "--listen", "127.0.0.1:0", "--data-dir", t.TempDir(), "--artifact", artifact)
		if code != 1 {
			t.Errorf("%s: exit code %d, want 1", name, code)
		}
		contains(t, "serve with "+name, stderr, c.want)
	}
	file := write(t, "tradewind.yaml", "aliases:\n  x: none\nrules:\n  - pin: none\n")
	stdout, _, code := command(t, nil, "", "doctor", "--offline", "--config", file, "--data-dir", t.TempDir())
	if code != 1 {
		t.Errorf("doctor has exit code %d, want 1", code)
	}
	contains(t, "doctor", stdout, `line 2: alias "x" stands for "none", which is not served`, `line 4: rules[0].pin: "none" is not served`)
}
