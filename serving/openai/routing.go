package openai

import (
	"fmt"
	"slices"
	"strconv"
	"time"
)

// This file reads the fields about routing: the tradewind object, strictly, and what is supported of OpenRouter's
// dialect; provider.go has what is about providers. A constraint that is not supported is refused and never dropped.

// tradewindFields are the members of the tradewind object.
var tradewindFields = []string{
	"strategy", "quality_floor", "max_cost_usd", "max_latency_ms", "allow", "deny", "models", "fallback", "explore",
	"hedge", "session_id", "tags", "gates", "explain", "policy",
}

// retriesMax is the most retries that a request may name; what is made is fewer.
const retriesMax = 1000

// Longest latency and deadline that a request may name, in milliseconds.
const millisMax = 24 * 3600 * 1000

func unsupported(param string) error {
	e := NewError(UnsupportedRoutingField, "%s is not supported", param)
	e.Param = param
	return e
}

func unknownField(param, name string, known []string) error {
	e := NewError(InvalidTradewindField, "%s is not a field of tradewind%s", param, DidYouMean(name, known))
	e.Param = param
	return e
}

func (r *Request) routing(s *scanner, f field) (err error) {
	name := fieldNames[f]
	if s.null() {
		return nil
	}
	o := &r.Tradewind
	switch f {
	case fTradewind:
		return r.tradewind(s)
	case fModels, fFallbacks: // LiteLLM's list, fallbacks, counts where there is no other
		var list []string
		if list, err = s.texts(name); !r.ownModels && len(list) > 0 && (f == fModels || len(o.Models) == 0) {
			o.Models = list
		}
	case fRoute:
		var route string
		if route, err = s.text(name, NameMax); err == nil && route != "fallback" {
			err = unsupported(name)
		}
	case fProvider:
		err = r.provider(s)
	case fProviderOptions:
		err = r.providerOptions(s)
	case fNumRetries:
		var n int
		n, err = s.integer(name, 0, retriesMax)
		o.Attempts = n + 1
	case fSessionID:
		r.sessions.body, err = s.text(name, SessionIDMax)
	case fDisableFallbacks:
		var off bool
		if off, err = s.boolean(name); off {
			r.fallbacks.foreign = No
		}
	case fPlugins:
		if !s.at('[') {
			return s.wrong(name, "an array")
		}
		err = s.elements(func(int) error { return r.plugin(s) })
	case fTransforms:
		if !s.at('[') {
			return s.wrong(name, "an array")
		}
		err = s.elements(func(int) error { return unsupported(name) })
	case fUsage: // {"include": true}: usage is always included where it may be
		if !s.at('{') {
			return s.wrong(name, "an object")
		}
		err = s.skip()
	default:
		err = unsupported(name)
	}
	return err
}

// autoRouter is the one plug-in of OpenRouter's that is supported: it is what this program is.
const autoRouter = "auto-router"

// plugin reads one of OpenRouter's plug-ins.
func (r *Request) plugin(s *scanner) error {
	if !s.at('{') {
		return s.wrong("plugins", "an array of objects")
	}
	var id, unknown string
	var allowed []string
	var tradeoff *float64
	err := s.members(func(key []byte) (err error) {
		param := fmt.Sprintf("plugins.%.64s", key)
		switch string(key) {
		case "id":
			id, err = s.text(param, NameMax)
		case "allowed_models":
			if allowed, err = s.someTexts(param); err == nil {
				err = validGlobs(param, allowed)
			}
		case "cost_quality_tradeoff":
			var lit string
			if lit, err = s.real(param); err == nil {
				tradeoff, err = parseTradeoff(param, lit)
			}
		default:
			unknown = param
			err = s.skip()
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case id != autoRouter:
		return unsupported("plugins")
	case unknown != "":
		return unsupported(unknown)
	}
	if allowed != nil {
		r.Tradewind.Allow = append(r.Tradewind.Allow, allowed)
	}
	r.Tradewind.Tradeoff = tradeoff
	return nil
}

// tradeoffMax is the setting at which cost alone counts.
const tradeoffMax = 10

func parseTradeoff(param, lit string) (*float64, error) {
	v, err := strconv.ParseFloat(lit, 64)
	if err != nil || !(v >= 0 && v <= tradeoffMax) {
		return nil, badParam(param, "must be a number from 0 to %d", tradeoffMax)
	}
	return &v, nil
}

func (r *Request) tradewind(s *scanner) error {
	if !s.at('{') {
		return s.wrong("tradewind", "an object")
	}
	return s.members(func(key []byte) error { return r.tradewindField(s, string(key)) })
}

func (r *Request) tradewindField(s *scanner, name string) (err error) {
	o, param := &r.Tradewind, "tradewind."+name[:min(len(name), NameMax)]
	if !slices.Contains(tradewindFields, name) {
		return unknownField(param, name, tradewindFields)
	}
	if s.null() {
		return nil
	}
	switch name {
	case "strategy":
		var v string
		if v, err = s.text(param, NameMax); err == nil {
			o.Strategy, err = parseStrategy(param, v)
		}
	case "quality_floor":
		err = r.qualityFloor(s, param)
	case "max_cost_usd":
		var lit string
		if lit, err = s.real(param); err == nil {
			o.MaxCost, err = parseCap(param, lit)
		}
	case "max_latency_ms":
		var ms int
		ms, err = s.integer(param, 1, millisMax)
		o.MaxLatency = time.Duration(ms) * time.Millisecond
	case "allow":
		var list []string
		if list, err = s.someTexts(param); err == nil {
			err = validGlobs(param, list)
		}
		o.Allow = append(o.Allow, list)
	case "deny":
		var list []string
		if list, err = s.texts(param); err == nil {
			err = validGlobs(param, list)
		}
		o.Deny = append(o.Deny, list...)
	case "models": // outranks OpenRouter's models, wherever the two stand
		r.ownModels = true
		o.Models, err = s.texts(param)
	case "fallback":
		r.fallbacks.tradewind, err = s.choice(param)
	case "explore":
		o.Explore, err = s.choice(param)
	case "hedge":
		o.Hedge, err = s.choice(param)
	case "explain":
		o.Explain, err = s.choice(param)
	case "session_id":
		r.sessions.tradewind, err = s.text(param, SessionIDMax)
	case "tags":
		err = r.tags(s, param)
	case "gates":
		o.Gates, err = s.texts(param)
	case "policy":
		o.Policy, err = s.text(param, NameMax)
	}
	return err
}

func parseStrategy(param, v string) (Strategy, error) {
	if st := Strategy(v); st.Known() {
		return st, nil
	}
	return "", badParam(param, "must be one of cost, latency, balanced, availability, quality")
}

// qualityFloor reads a number or {reference, epsilon}.
func (r *Request) qualityFloor(s *scanner, param string) error {
	if !s.at('{') {
		if s.at('"') || s.at('[') || s.at('t') || s.at('f') || s.at('n') {
			return s.wrong(param, "a number or an object")
		}
		lit, err := s.real(param)
		if err == nil {
			r.Tradewind.QualityFloor, err = parseShare(param, lit)
		}
		return err
	}
	reference, epsilon := "", 0.0
	err := s.members(func(key []byte) (err error) {
		switch string(key) {
		case "reference":
			reference, err = s.text(param+".reference", NameMax)
		case "epsilon":
			var lit string
			if lit, err = s.real(param + ".epsilon"); err == nil {
				epsilon, err = parseShare(param+".epsilon", lit)
			}
		default:
			err = unknownField(fmt.Sprintf("%s.%.64s", param, key), string(key), []string{"reference", "epsilon"})
		}
		return err
	})
	if err != nil {
		return err
	}
	if reference == "" {
		return badParam(param+".reference", "is missing")
	}
	return r.Tradewind.floorReference(param, reference, epsilon)
}

func (r *Request) tags(s *scanner, param string) error {
	if !s.at('{') {
		return s.wrong(param, "an object of strings")
	}
	tags := make(map[string]string)
	err := s.members(func(key []byte) error {
		v, err := s.text(fmt.Sprintf("%s.%.64s", param, key), TagMax)
		if err != nil {
			return err
		}
		return addTag(tags, param, string(key), v)
	})
	r.Tradewind.Tags = tags
	return err
}

func addTag(tags map[string]string, param, key, value string) error {
	if key == "" || len(key) > TagMax || len(value) > TagMax {
		return badParam(param, "must have keys of 1 to %d bytes and values of at most %d", TagMax, TagMax)
	}
	if tags[key] = value; len(tags) > TagsMax {
		return badParam(param, "must have at most %d entries", TagsMax)
	}
	return nil
}
