package openai

import (
	"cmp"
	"net/http"
	"strings"
	"time"
)

// This file reads the x-tradewind headers. They have the names of the body's fields with dashes; the body wins where
// both give a single value, and constraints of both apply.

const headerPrefix = "X-Tradewind-"

// headerNames are the request headers, for the hint after a misspelled one.
var headerNames = []string{
	"strategy", "quality-floor", "max-cost-usd", "max-latency-ms", "allow", "deny", "explain", "explore", "fallback",
	"hedge", "session-id", "tags", "policy", "timeout-ms", "end-user", "log",
}

// ApplyHeaders merges the request's headers into r.Tradewind. An unknown x-tradewind header is refused like an unknown
// member of the tradewind object, and for the same reason: a typo in a constraint must not be ignored.
func ApplyHeaders(r *Request, h http.Header) error {
	for key, values := range h {
		if len(key) <= len(headerPrefix) || !strings.EqualFold(key[:len(headerPrefix)], headerPrefix) {
			continue
		}
		name, param := strings.ToLower(key[len(headerPrefix):]), strings.ToLower(key)
		v := strings.Join(values, ",")
		if len(values) > 1 && name != "allow" && name != "deny" && name != "tags" {
			return badParam(param, "must be sent once")
		}
		if len(v) > ListMax*NameMax {
			return badParam(param, "is too long")
		}
		if err := r.header(name, param, v); err != nil {
			return err
		}
	}
	r.session(r.sessions.header, r.sessions.tradewind, shortHeader(h, "X-Session-Id"), shortHeader(h, "X-Claude-Code-Session-Id"), r.sessions.body)
	r.fallback()
	if r.Tradewind.Tags == nil {
		r.Tradewind.Tags = r.metadataTags
	}
	return nil
}

// fallbacks are the places where a request may say whether another model may answer: the tradewind object, the header, and the
// fields of other dialects. alone says that those ask for the providers of an order and for nobody else.
type fallbacks struct {
	tradewind, header, foreign Choice
	alone                      bool
}

// fallback takes the first that says it. Who overrules allow_fallbacks frees the order that came with it too.
func (r *Request) fallback() {
	o, f := &r.Tradewind, &r.fallbacks
	if o.Fallback = cmp.Or(f.tradewind, f.header, f.foreign); f.alone {
		o.Provider.Alone = o.Fallback == No
	}
}

// session takes the first of the names that a client may have given, and where there is none its cache key.
func (r *Request) session(names ...string) {
	o := &r.Tradewind
	o.Session = firstOf(names...)
	if o.SessionShared = o.Session == "" && r.sessions.cacheKey != ""; o.SessionShared {
		o.Session = r.sessions.cacheKey
	}
}

// sessions are the places where a session key may stand. The own header outranks the body here, as section 7 of the
// conventions orders them.
type sessions struct{ header, tradewind, body, cacheKey string }

// shortHeader is a session id that another program chose; one that is too long is not ours to refuse.
func shortHeader(h http.Header, name string) string {
	if v := h.Get(name); len(v) <= SessionIDMax {
		return v
	}
	return ""
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

func (r *Request) header(name, param, v string) (err error) {
	o := &r.Tradewind
	switch name {
	case "strategy":
		var st Strategy
		if st, err = parseStrategy(param, v); err == nil && o.Strategy == StrategyNone {
			o.Strategy = st
		}
	case "quality-floor":
		err = o.floorHeader(param, v)
	case "max-cost-usd":
		amount, e := parseCap(param, v)
		if err = e; err == nil {
			o.capCost(amount)
		}
	case "max-latency-ms":
		ms, e := parseInteger(param, v, 1, millisMax)
		if err = e; err == nil {
			o.capLatency(time.Duration(ms) * time.Millisecond)
		}
	case "allow", "deny":
		list, e := splitList(param, v)
		if err = e; err == nil {
			err = validGlobs(param, list)
		}
		if name == "allow" {
			o.Allow = append(o.Allow, list)
		} else {
			o.Deny = append(o.Deny, list...)
		}
	case "explain":
		err = o.Explain.header(param, v)
	case "explore":
		err = o.Explore.header(param, v)
	case "fallback":
		err = r.fallbacks.header.header(param, v)
	case "hedge":
		err = o.Hedge.header(param, v)
	case "session-id":
		if v == "" || len(v) > SessionIDMax {
			return badParam(param, "must have 1 to %d bytes", SessionIDMax)
		}
		r.sessions.header = v
	case "tags":
		err = o.tagsHeader(param, v)
	case "policy":
		if o.Policy == "" {
			o.Policy = v
		}
	case "timeout-ms":
		ms, e := parseInteger(param, v, 1, millisMax)
		err, o.Timeout = e, time.Duration(ms)*time.Millisecond
	case "end-user":
		if o.EndUser = v; len(v) > UserMax {
			err = badParam(param, "must be at most %d bytes long", UserMax)
		}
	case "log":
		if o.Log = v; v != "full" && v != "features" && v != "none" {
			err = badParam(param, "must be one of full, features, none")
		}
	default:
		err = unknownField(param, name, headerNames)
	}
	return err
}

func (c *Choice) header(param, v string) error {
	if v != "true" && v != "false" {
		return badParam(param, "must be true or false")
	}
	if *c == Unset {
		*c = choose(v == "true")
	}
	return nil
}

// floorHeader reads a number or "reference=<model>;epsilon=<n>".
func (o *Options) floorHeader(param, v string) error {
	if !strings.Contains(v, "=") {
		floor, err := parseShare(param, v)
		o.QualityFloor = max(o.QualityFloor, floor)
		return err
	}
	reference, epsilon := "", 0.0
	for field := range strings.SplitSeq(v, ";") {
		key, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		switch key {
		case "reference":
			reference = value
		case "epsilon":
			var err error
			if epsilon, err = parseShare(param, value); err != nil {
				return err
			}
		default:
			return badParam(param, "must be a number or reference=<model>;epsilon=<number>")
		}
	}
	if reference == "" || len(reference) > NameMax {
		return badParam(param, "must name a reference of at most %d bytes", NameMax)
	}
	return o.floorReference(param, reference, epsilon)
}

func (o *Options) tagsHeader(param, v string) error {
	list, err := splitList(param, v)
	if err != nil {
		return err
	}
	tags := make(map[string]string, len(list))
	for _, pair := range list {
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			return badParam(param, "must be a comma-separated list of key=value")
		}
		if err := addTag(tags, param, key, value); err != nil {
			return err
		}
	}
	if o.Tags == nil {
		o.Tags = tags
	}
	return nil
}

func splitList(param, v string) ([]string, error) {
	parts := strings.Split(v, ",")
	if len(parts) > ListMax {
		return nil, badParam(param, "must have at most %d entries", ListMax)
	}
	for i, p := range parts {
		if parts[i] = strings.TrimSpace(p); parts[i] == "" || len(parts[i]) > NameMax {
			return nil, badParam(param, "must have entries of 1 to %d bytes", NameMax)
		}
	}
	return parts, nil
}
