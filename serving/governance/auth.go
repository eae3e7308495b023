package governance

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/telemetry"
)

// Sizes of keys.
const (
	// KeyMaxBytes is the longest key that is looked at; a longer header is not hashed.
	KeyMaxBytes = 512
	// keyMinBytes is the shortest key that a configuration may hold. Shorter ones can be guessed.
	keyMinBytes = 16
	// keyIDLen is the length of KeyID: 64 bits of the digest.
	keyIDLen = 16
	prefix   = "sk-tw-"
	// MakeKey is a command that prints a new key.
	MakeKey = `echo sk-tw-$(openssl rand -base64 32 | tr '+/' '-_' | tr -d '=')`
)

// The errors of Authenticate. None tells more about a key than its holder knows.
var (
	ErrNoKey   = errors.New("governance: no key was sent")
	ErrBadKey  = errors.New("governance: the key is not known")
	ErrExpired = errors.New("governance: the key has expired or is disabled")

	ErrForeignPage = errors.New("governance: a page of another machine asks, and no key is configured")
)

// BudgetConfig caps spending in US dollars for each window; nil is no cap, and zero refuses all that costs.
type BudgetConfig struct {
	DayUSD   *float64 `yaml:"day" json:"day,omitempty" doc:"US dollars a day, in UTC; 0 refuses all that costs."`
	WeekUSD  *float64 `yaml:"week" json:"week,omitempty"`
	MonthUSD *float64 `yaml:"month" json:"month,omitempty"`
	TotalUSD *float64 `yaml:"total" json:"total,omitempty" doc:"US dollars in all."`
}

// KeyConfig is one key of the configuration: the key itself or its digest, and what it may do.
type KeyConfig struct {
	// Name is for people, in error messages and where gates are attached to keys.
	Name string `yaml:"name" json:"name,omitempty" doc:"For people, in error messages, and where gates are attached to keys."`
	// Key is the secret, SHA256 its digest in hex; exactly one of them is set.
	Key    telemetry.Secret `yaml:"key" json:"key,omitempty" doc:"The secret, such as ${TEAM_A_KEY}; or give its sha256."`
	SHA256 string           `yaml:"sha256" json:"sha256,omitempty" doc:"The digest of the secret, in hex."`
	Org    string           `yaml:"org" json:"org,omitempty"`
	Team   string           `yaml:"team" json:"team,omitempty"`

	Budget      BudgetConfig `yaml:"budget_usd" json:"budget_usd"`
	Permissions []Permission `yaml:"permissions" json:"permissions,omitempty"`
	Strategy    string       `yaml:"strategy" json:"strategy,omitempty" enum:"cost,latency,balanced,availability,quality"`
	Policy      string       `yaml:"policy" json:"policy,omitempty" doc:"The name of a policy; its constraints add to those of the key."`
	Target      TargetConfig `yaml:"target" json:"target,omitzero"`
	Floor       float64      `yaml:"quality_floor" json:"quality_floor,omitempty" doc:"The least estimated quality of a model, 0 to 1."`
	// MaxCostUSD and MaxLatencyMS cap every single request.
	MaxCostUSD   float64  `yaml:"max_cost_usd" json:"max_cost_usd,omitempty" nonzero:"" doc:"The most that one request may cost."`
	MaxLatencyMS float64  `yaml:"max_latency_ms" json:"max_latency_ms,omitempty" nonzero:""`
	Allow        []string `yaml:"allow" json:"allow,omitempty" doc:"Globs over provider/model; without any, all are allowed."`
	Deny         []string `yaml:"deny" json:"deny,omitempty" doc:"Globs over provider/model; they win."`
	Explore      *bool    `yaml:"explore" json:"explore,omitempty"`
	// Log is full, features or none; empty is features, because text is kept only where somebody asked for it.
	Log LogLevel `yaml:"log" json:"log,omitempty" enum:"full,features,none" doc:"What is kept of its requests beside the money."`

	RequestsPerMinute int `yaml:"rpm" json:"rpm,omitempty" nonzero:""`
	TokensPerMinute   int `yaml:"tpm" json:"tpm,omitempty" nonzero:""`
	Concurrent        int `yaml:"concurrent" json:"concurrent,omitempty" nonzero:""`
	// Hedge is nil where the key's requests may not hedge.
	Hedge     *HedgeConfig `yaml:"hedge" json:"hedge,omitempty" doc:"Its requests may ask for tradewind.hedge: a second call beside one that is slow to begin. {} takes the defaults."`
	ExpiresAt time.Time    `yaml:"expires_at" json:"expires_at,omitzero" doc:"A day, or a time such as 2026-12-31T23:59:59Z."`
	Disabled  bool         `yaml:"disabled" json:"disabled,omitempty"`
}

// OwnerConfig is an organization or a team that has budgets, a strategy or a policy of its own.
type OwnerConfig struct {
	Name     string       `yaml:"name" json:"name"`
	Org      string       `yaml:"org" json:"org,omitempty"`
	Budget   BudgetConfig `yaml:"budget_usd" json:"budget_usd"`
	Target   TargetConfig `yaml:"target" json:"target,omitzero"`
	Strategy string       `yaml:"strategy" json:"strategy,omitempty" enum:"cost,latency,balanced,availability,quality" doc:"Where its keys name none."`
	Policy   string       `yaml:"policy" json:"policy,omitempty" doc:"The name of a policy; its constraints hold for every key."`
}

// owner is what an organization or a team hands down to its keys.
type owner struct {
	budgets []Budget
	level   Level
}

// Options of an Authenticator. The zero value has no keys and accepts everybody as the principal Local: whoever
// serves it must see to it that only this machine can reach it.
type Options struct {
	Keys  []KeyConfig
	Orgs  []OwnerConfig
	Teams []OwnerConfig
	// Now is the clock that keys expire by; nil is time.Now.
	Now func() time.Time
}

// Authenticator looks keys up by their whole digest. It is immutable: a changed configuration makes a new one.
type Authenticator struct {
	keys map[[sha256.Size]byte]*entry
	now  func() time.Time
	open *Principal
}

type entry struct {
	digest    [sha256.Size]byte
	principal Principal
	disabled  bool
}

// New builds an authenticator. Every mistake in the configuration is an error that names the key by its place and
// name, never by its secret.
func New(o Options) (*Authenticator, error) {
	a := &Authenticator{keys: make(map[[sha256.Size]byte]*entry, len(o.Keys)), now: o.Now}
	if a.now == nil {
		a.now = time.Now
	}
	if len(o.Keys) == 0 {
		a.open = &Principal{Org: Local, Team: Local, KeyID: Local, LogLevel: LogFull, Permissions: []Permission{PolicyOverride}}
	}
	owners, err := ownersOf(o)
	if err != nil {
		return nil, err
	}
	for i := range o.Keys {
		e, err := o.Keys[i].entry(i, owners)
		if err != nil {
			return nil, fmt.Errorf("governance: key %d (%q): %w", i+1, o.Keys[i].Name, err)
		}
		if a.keys[e.digest] != nil {
			return nil, fmt.Errorf("governance: key %d (%q) stands twice", i+1, o.Keys[i].Name)
		}
		a.keys[e.digest] = e
	}
	return a, a.aim(o)
}

// TeamOwner is the name under which a team owns budgets: two organizations may have a team of one name.
func TeamOwner(org, team string) string { return org + "/" + team }

// ownersOf gathers organizations ("org") and teams ("org/team").
func ownersOf(o Options) (map[string]*owner, error) {
	owners := make(map[string]*owner)
	for i, c := range o.Orgs {
		b, err := c.Budget.budgets("org", c.Name)
		if err := once(owners, c.Name, c.Name, err); err != nil {
			return nil, fmt.Errorf("governance: organization %q: %w", c.Name, err)
		}
		owners[c.Name] = &owner{b, Level{[]any{"orgs", i}, c.Strategy, c.Policy, c.Target.Quality}}
	}
	for i, c := range o.Teams {
		name := TeamOwner(c.Org, c.Name)
		if strings.Contains(c.Org, "/") {
			return nil, fmt.Errorf("governance: team %q: its organization has a slash", name)
		}
		b, err := c.Budget.budgets("team", name)
		if err := once(owners, c.Name, name, err); err != nil {
			return nil, fmt.Errorf("governance: team %q: %w", name, err)
		}
		owners[name] = &owner{b, Level{[]any{"teams", i}, c.Strategy, c.Policy, c.Target.Quality}}
	}
	return owners, nil
}

// once reports an owner without a name, or one that is there before.
func once(owners map[string]*owner, name, owner string, err error) error {
	switch {
	case err != nil:
		return err
	case name == "" || strings.Contains(name, "/"):
		return errors.New("a name is not empty and has no slash")
	case owners[owner] != nil:
		return errors.New("stands twice")
	}
	return nil
}

func (c BudgetConfig) budgets(scope, owner string) ([]Budget, error) {
	b := []Budget{}
	for _, w := range []struct {
		window string
		usd    *float64
	}{{"day", c.DayUSD}, {"week", c.WeekUSD}, {"month", c.MonthUSD}, {"total", c.TotalUSD}} {
		if w.usd == nil {
			continue
		}
		amount, err := catalog.FromDollars(*w.usd)
		if err != nil || amount < 0 {
			return nil, fmt.Errorf("budget of %v USD a %s is out of range", *w.usd, w.window)
		}
		b = append(b, Budget{Scope: scope, Owner: owner, Window: w.window, Amount: amount})
	}
	return b, nil
}

// entry checks one key and builds its principal.
func (c *KeyConfig) entry(i int, owners map[string]*owner) (*entry, error) {
	e := &entry{disabled: c.Disabled}
	var err error
	if e.digest, err = c.digest(); err != nil {
		return nil, err
	}
	if strings.Contains(c.Org+c.Team, "/") { // "a/b" could be a team of a or an organization
		return nil, errors.New("the name of an organization or a team has no slash")
	}
	level := cmp.Or(c.Log, LogFeatures)
	if !level.valid() {
		return nil, fmt.Errorf("log %q is none of full, features, none", c.Log)
	}
	for _, p := range c.Permissions {
		if p != PolicyOverride {
			return nil, fmt.Errorf("permission %q is not known", p)
		}
	}
	for _, g := range slices.Concat(c.Allow, c.Deny) {
		if err := catalog.ValidateGlob(g); err != nil {
			return nil, err
		}
	}
	if !(c.Floor >= 0 && c.Floor <= 1) {
		return nil, fmt.Errorf("quality_floor is %v, want 0 to 1", c.Floor)
	}
	for _, limit := range [...]struct {
		name string
		most float64
	}{
		{"max_cost_usd", c.MaxCostUSD}, {"max_latency_ms", c.MaxLatencyMS}, {"rpm", float64(c.RequestsPerMinute)},
		{"tpm", float64(c.TokensPerMinute)}, {"concurrent", float64(c.Concurrent)},
	} {
		if !(limit.most >= 0) {
			return nil, fmt.Errorf("%s is %v, want more than 0", limit.name, limit.most)
		}
	}
	e.principal = Principal{
		Org: c.Org, Team: c.Team, KeyID: KeyID(e.digest), Name: c.Name, Permissions: c.Permissions, Floor: c.Floor,
		Caps: Caps{MaxCostUSD: c.MaxCostUSD, MaxLatencyMS: c.MaxLatencyMS}, Allow: c.Allow, Deny: c.Deny, Explore: c.Explore,
		LogLevel: level, ExpiresAt: c.ExpiresAt,
		Limits: Limits{RequestsPerMinute: c.RequestsPerMinute, TokensPerMinute: c.TokensPerMinute, Concurrent: c.Concurrent},
	}
	own, err := c.Budget.budgets("key", e.principal.KeyID)
	if err != nil {
		return nil, err
	}
	if e.principal.Hedge, err = c.Hedge.hedge(); err != nil {
		return nil, err
	}
	e.principal.Budgets = own
	e.principal.Levels[0] = Level{[]any{"keys", i}, c.Strategy, c.Policy, c.Target.Quality}
	for n, name := range [...]string{TeamOwner(c.Org, c.Team), c.Org} {
		if owner := owners[name]; owner != nil {
			e.principal.Budgets = append(e.principal.Budgets, owner.budgets...)
			e.principal.Levels[1+n] = owner.level
		}
	}
	return e, nil
}

func (c *KeyConfig) digest() (d [sha256.Size]byte, err error) {
	switch secret := c.Key.Reveal(); {
	case (secret == "") == (c.SHA256 == ""):
		return d, errors.New("exactly one of key and sha256 is needed, and neither may be empty")
	case secret != "" && strings.TrimSpace(secret) != secret:
		return d, errors.New("the key has spaces around it")
	case secret != "" && (len(secret) < keyMinBytes || len(secret) > KeyMaxBytes):
		return d, fmt.Errorf("the key is not between %d and %d bytes long; this makes one: %s", keyMinBytes, KeyMaxBytes, MakeKey)
	case secret != "":
		return Digest(secret), nil
	}
	raw, err := hex.DecodeString(c.SHA256)
	if err != nil || len(raw) != sha256.Size {
		return d, errors.New("sha256 is not 64 hex digits")
	}
	copy(d[:], raw)
	if d == sha256.Sum256(nil) {
		return d, errors.New("sha256 is that of the empty key")
	}
	return d, nil
}

// Digest is the form in which a key is kept.
func Digest(key string) [sha256.Size]byte { return sha256.Sum256([]byte(key)) }

// KeyID is the name of a key: the first 64 bits of its digest, in hex.
func KeyID(digest [sha256.Size]byte) string { return hex.EncodeToString(digest[:])[:keyIDLen] }

// Open reports whether no key is configured, so that everybody is the principal Local.
func (a *Authenticator) Open() bool { return a.open != nil }

// Principals lists everyone who may ask, so that budgets can be opened before the first request.
func (a *Authenticator) Principals() []*Principal {
	if a.open != nil {
		return []*Principal{a.open}
	}
	all := make([]*Principal, 0, len(a.keys))
	for _, e := range a.keys {
		all = append(all, &e.principal)
	}
	slices.SortFunc(all, func(x, y *Principal) int { return strings.Compare(x.KeyID, y.KeyID) })
	return all
}

// Authenticate finds the principal of a request by Authorization: Bearer or x-api-key. It returns ErrNoKey, ErrBadKey,
// ErrExpired or ErrForeignPage.
func (a *Authenticator) Authenticate(h http.Header) (*Principal, error) {
	if a.open != nil {
		if foreignPage(h.Get("Origin")) {
			return nil, ErrForeignPage
		}
		return a.open, nil
	}
	key, err := credential(h)
	if err != nil {
		return nil, err
	}
	digest := Digest(key)
	e := a.keys[digest]
	// The map was asked for the whole digest already, which tells nothing about a key that one does not have. The
	// comparison keeps it so if the map should ever be keyed on less.
	if e == nil || subtle.ConstantTimeCompare(e.digest[:], digest[:]) != 1 {
		return nil, ErrBadKey
	}
	if e.disabled || (!e.principal.ExpiresAt.IsZero() && !a.now().Before(e.principal.ExpiresAt)) {
		return nil, ErrExpired
	}
	return &e.principal, nil
}

// foreignPage reports whether a browser says that a page of another machine asks. Without keys everybody on this machine may ask,
// and a browser on it would ask for any page that it shows: some requests need no leave of ours, and a name that is made to
// resolve to this machine (DNS rebinding) needs none at all. Programs send no Origin, and extensions have schemes of their own.
func foreignPage(origin string) bool {
	if origin == "" {
		return false
	}
	u, err := url.Parse(origin)
	if err != nil || u.Scheme == "" { // "null" among them: a page that hides where it is from
		return true
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "localhost" {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return ip == nil || !ip.IsLoopback()
}

// credential reads the key from the headers. Two different keys are refused: guessing which one is meant would let a
// proxy's header win over a client's.
func credential(h http.Header) (string, error) {
	found := ""
	for _, name := range [...]string{"Authorization", "X-Api-Key"} {
		for _, v := range h[name] {
			if name == "Authorization" {
				scheme, rest, ok := strings.Cut(v, " ")
				if !ok || !strings.EqualFold(scheme, "Bearer") {
					return "", ErrBadKey
				}
				v = strings.TrimLeft(rest, " ")
			}
			if v == "" {
				continue
			}
			if len(v) > KeyMaxBytes || (found != "" && found != v) {
				return "", ErrBadKey
			}
			found = v
		}
	}
	if found == "" {
		return "", ErrNoKey
	}
	return found, nil
}

// NewKey makes a key: "sk-tw-" and 256 random bits.
func NewKey() telemetry.Secret {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24: it ends the process instead
	return telemetry.Secret(prefix + base64.RawURLEncoding.EncodeToString(b[:]))
}
