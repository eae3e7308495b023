package openai

import "slices"

// dispensable are the fields that an operator may have left out for an arm that does not take them. Without any of them the
// answer is of the same form, and the code that reads it is the same: they say how tokens are drawn, how an answer is wished
// for, who asks, and where it is kept. What is not here is never left out: content, tools and tool_choice, response_format, n,
// stop and caps on length, reasoning (it is what arms are chosen and priced by), and logprobs, which are a part of the answer.
var dispensable = []string{
	"temperature", "top_p", "top_k", "top_a", "min_p", "seed", "frequency_penalty", "presence_penalty", "repetition_penalty", "logit_bias",
	"parallel_tool_calls", "verbosity", "prediction", "service_tier",
	"user", "safety_identifier", "metadata", "store", "prompt_cache_key", "prompt_cache_retention",
}

// Dispensable reports whether a field of a body, in any dialect, may be left out where an arm cannot be told it.
func Dispensable(field string) bool { return slices.Contains(dispensable, field) }

// SaysByItself reports whether a field of a chat body asks for something even where its value is zero or empty: a seed of 0
// is a seed, and options of a search ask for it without naming one.
func SaysByItself(field string) bool { return field == "seed" || field == "web_search_options" }

// Says reports whether the body has a field that is not null.
func (r *Request) Says(field string) bool {
	return slices.ContainsFunc(r.members, func(m member) bool { return r.named(m, field) && !m.value.isNull(r.body) })
}

// named reports whether a member has a name.
func (r *Request) named(m member, name string) bool {
	key := m.key.of(r.body)
	return unescape(key[1:len(key)-1]) == name
}

// Without is the request's body without some of its fields.
func (r *Request) Without(fields []string) []byte {
	return r.AppendUpstream(make([]byte, 0, len(r.body)+len(r.Model)), Upstream{Model: r.Model, Drop: fields, Marks: true})
}
