package openai

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

// This file reads what a request says of providers: OpenRouter's provider object, and the part of it that Vercel's gateway
// has, under other names. What is unknown in either is refused with the nearest name: most of it are constraints.

// Preferences is what a request says of providers, beside those that it allows and denies. The zero value asks for nothing.
type Preferences struct {
	// Order is the providers of one model in the order in which they are to be tried, those that are not named after them.
	Order []string
	// Alone says that the first of Order that may serves, and nobody who is not named there.
	Alone bool
	// Whole says that nothing of the request may be left out, whatever an operator would have left out for a model.
	Whole bool
	// Quantizations are those that the weights may be declared in; none where any will do.
	Quantizations []string
	// Data is what the provider must be declared to promise of what it is sent.
	Data catalog.DataPolicy
	// MaxPrice caps what the provider lists.
	MaxPrice MaxPrice
	// MaxLatency (in seconds, to the first token) and MinThroughput (in tokens a second) put the providers of one model behind
	// that are slower. They keep nobody from serving.
	MaxLatency, MinThroughput Preferred
}

// MaxPrice are caps on listed prices: of a token in and out, and of a call. Nil is no cap; 0 is one that free models keep to.
type MaxPrice struct {
	Prompt, Completion *catalog.PerMTok
	Request            *catalog.Nanodollars
}

// Any reports whether there is a cap.
func (m *MaxPrice) Any() bool { return m.Prompt != nil || m.Completion != nil || m.Request != nil }

// Preferred is a threshold for the median, and one for what nine of ten keep to; 0 is none.
type Preferred struct{ P50, P90 float64 }

var (
	// providerFields are the members of OpenRouter's provider object that are read, priceFields those of its max_price.
	providerFields = []string{
		"order", "only", "ignore", "allow_fallbacks", "sort", "require_parameters", "data_collection", "zdr", "quantizations", "max_price",
		"preferred_min_throughput", "preferred_max_latency",
	}
	priceFields = []string{"prompt", "completion", "request"}
	// gatewayFields are the members of providerOptions.gateway.
	gatewayFields = []string{"order", "only", "sort"}
	// percentiles are those that a preference may name.
	percentiles = []string{"p50", "p75", "p90", "p99"}
)

// notAmong refuses a member that is not read.
func notAmong(param, name string, known []string) error {
	e := NewError(UnsupportedRoutingField, "%s is not supported%s", param, DidYouMean(name, known))
	e.Param = param
	return e
}

// preferences are the request's own, made where it has some.
func (o *Options) preferences() *Preferences {
	if o.Provider == nil {
		o.Provider = &Preferences{}
	}
	return o.Provider
}

// provider reads OpenRouter's provider object.
func (r *Request) provider(s *scanner) error {
	if !s.at('{') {
		return s.wrong("provider", "an object")
	}
	o := &r.Tradewind
	var order []string
	alone := false
	err := s.members(func(key []byte) (err error) {
		name, param := string(key), fmt.Sprintf("provider.%.64s", key)
		if s.null() {
			return nil
		}
		switch name {
		case "order": // outranks the gateway's, wherever the two stand
			if order, err = s.texts(param); len(order) > 0 {
				o.preferences().Order = order
			}
		case "only":
			var list []string
			list, err = s.someTexts(param)
			o.Allow = append(o.Allow, OfProviders(list))
		case "ignore":
			var list []string
			list, err = s.texts(param)
			o.Deny = append(o.Deny, OfProviders(list)...)
		case "allow_fallbacks":
			var yes bool
			if yes, err = s.boolean(param); !yes {
				alone = true
			}
		case "sort":
			err = r.providerSort(s, param, "price", "latency", "throughput")
		case "require_parameters": // what no operator has allowed is never left out anyhow
			var whole bool
			if whole, err = s.boolean(param); whole {
				o.preferences().Whole = true
			}
		default:
			err = r.preference(s, name, param)
		}
		return err
	})
	if alone {
		r.fallbacks.foreign, r.fallbacks.alone = No, len(order) > 0
	}
	return err
}

// OfProviders are the globs of all models of the providers.
func OfProviders(names []string) []string {
	globs := make([]string, len(names))
	for i, name := range names {
		globs[i] = name + "/*"
	}
	return globs
}

// preference reads what goes into Preferences, but the order.
func (r *Request) preference(s *scanner, name, param string) (err error) {
	o := &r.Tradewind
	switch name {
	case "data_collection":
		var v string
		if v, err = s.text(param, NameMax); err == nil && v != "allow" && v != "deny" {
			err = badParam(param, "must be allow or deny")
		}
		if v == "deny" {
			o.preferences().Data |= catalog.NoCollection
		}
	case "zdr":
		var on bool
		if on, err = s.boolean(param); on {
			o.preferences().Data |= catalog.ZeroRetention
		}
	case "quantizations":
		var list []string
		if list, err = s.texts(param); err == nil {
			err = knownQuantizations(param, list)
		}
		o.preferences().Quantizations = list
	case "max_price":
		err = o.preferences().MaxPrice.read(s, param)
	case "preferred_max_latency":
		err = o.preferences().MaxLatency.read(s, param)
	case "preferred_min_throughput":
		err = o.preferences().MinThroughput.read(s, param)
	default:
		err = notAmong(param, name, providerFields)
	}
	return err
}

// knownQuantizations refuses a list that would silently match nothing.
func knownQuantizations(param string, list []string) error {
	if len(list) == 0 {
		return badParam(param, "must not be empty")
	}
	for _, q := range list {
		if !slices.Contains(catalog.Quantizations(), q) {
			return badParam(param, "has %.64q, which is none of %v", q, catalog.Quantizations())
		}
	}
	return nil
}

// read reads {prompt, completion, request}: in US dollars per million tokens and per call, as numbers or as text.
func (m *MaxPrice) read(s *scanner, param string) error {
	if !s.at('{') {
		return s.wrong(param, "an object")
	}
	return s.members(func(key []byte) error {
		param := fmt.Sprintf("%s.%.64s", param, key)
		if !slices.Contains(priceFields, string(key)) {
			return notAmong(param, string(key), priceFields)
		}
		if s.null() {
			return nil
		}
		lit, err := s.amount(param)
		if err != nil {
			return err
		}
		switch string(key) {
		case "prompt":
			m.Prompt, err = perMTok(lit)
		case "completion":
			m.Completion, err = perMTok(lit)
		case "request":
			m.Request = new(catalog.Nanodollars)
			if err = m.Request.UnmarshalJSON([]byte(lit)); err == nil && *m.Request < 0 {
				err = catalog.ErrOverflow
			}
		}
		if err != nil {
			return badParam(param, "must be a price in US dollars")
		}
		return nil
	})
}

// amount reads the digits of a number, quoted or not.
func (s *scanner) amount(param string) (string, error) {
	if s.at('"') {
		return s.text(param, NameMax)
	}
	return s.raw(param, "a number")
}

func perMTok(lit string) (*catalog.PerMTok, error) {
	p := new(catalog.PerMTok)
	if lit == "" {
		return nil, catalog.ErrOverflow
	}
	return p, p.UnmarshalJSON([]byte(lit))
}

// read reads a number, which is of the median, or one for each percentile. Of latencies the median and the 90th percentile are
// known, so the others but the median are held against the latter.
func (p *Preferred) read(s *scanner, param string) error {
	if !s.at('{') {
		v, err := s.positive(param)
		p.P50 = v
		return err
	}
	return s.members(func(key []byte) error {
		param := fmt.Sprintf("%s.%.64s", param, key)
		if !slices.Contains(percentiles, string(key)) {
			return notAmong(param, string(key), percentiles)
		}
		if s.null() {
			return nil
		}
		v, err := s.positive(param)
		switch {
		case string(key) == "p50":
			p.P50 = v
		case p.P90 == 0 || string(key) == "p90":
			p.P90 = v
		}
		return err
	})
}

func (s *scanner) positive(param string) (float64, error) {
	lit, err := s.real(param)
	if err != nil {
		return 0, err
	}
	v, err := strconv.ParseFloat(lit, 64)
	if err != nil || !(v > 0) {
		return 0, badParam(param, "must be a number above 0")
	}
	return v, nil
}

// providerSort reads what the providers are sorted by, under the names that the dialect has for it.
func (r *Request) providerSort(s *scanner, param, cost, latency, throughput string) error {
	v, err := s.text(param, NameMax)
	if err != nil {
		return err
	}
	switch r.throughput = v == throughput; v {
	case cost:
		r.strategy = StrategyCost
	case latency, throughput:
		r.strategy = StrategyLatency
	default:
		e := NewError(UnsupportedRoutingField, "%s can be %s, %s or %s", param, cost, latency, throughput)
		e.Param = param
		return e
	}
	return nil
}

// providerOptions reads {gateway: {order, only, sort}}. What it says to a provider itself cannot be handed on.
func (r *Request) providerOptions(s *scanner) error {
	const options, gateway = "providerOptions", "providerOptions.gateway"
	if !s.at('{') {
		return s.wrong(options, "an object")
	}
	return s.members(func(key []byte) error {
		if string(key) != "gateway" {
			return notAmong(fmt.Sprintf("%s.%.64s", options, key), string(key), []string{"gateway"})
		}
		if s.null() {
			return nil
		}
		if !s.at('{') {
			return s.wrong(gateway, "an object")
		}
		return s.members(func(key []byte) error { return r.gateway(s, string(key), fmt.Sprintf("%s.%.64s", gateway, key)) })
	})
}

func (r *Request) gateway(s *scanner, name, param string) error {
	if !slices.Contains(gatewayFields, name) {
		return notAmong(param, name, gatewayFields)
	}
	if s.null() {
		return nil
	}
	o := &r.Tradewind
	if name == "sort" { // as with the order, the provider object's outranks it
		sorted, throughput := r.strategy, r.throughput
		err := r.providerSort(s, param, "cost", "ttft", "tps")
		if sorted != StrategyNone {
			r.strategy, r.throughput = sorted, throughput
		}
		return err
	}
	if name == "only" {
		list, err := s.someTexts(param)
		o.Allow = append(o.Allow, OfProviders(list))
		return err
	}
	list, err := s.texts(param)
	if len(list) > 0 && (o.Provider == nil || o.Provider.Order == nil) {
		o.preferences().Order = list
	}
	return err
}
