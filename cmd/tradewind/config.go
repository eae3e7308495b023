package main

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/serving/gate"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/idempotency"
	"github.com/tradewind-llm/tradewind/serving/journal"
	"github.com/tradewind-llm/tradewind/serving/quota"
	"github.com/tradewind-llm/tradewind/serving/rules"
	"github.com/tradewind-llm/tradewind/serving/session"
	"github.com/tradewind-llm/tradewind/serving/telemetry"
)

// configBytesMax bounds a configuration file.
const configBytesMax = 4 << 20

// A session may be remembered for a day, and ten million of them, which is 2 GB.
const (
	sessionIdleMax = 24 * 3600
	sessionsMax    = 10_000_000
)

// config is tradewind.yaml. Unknown keys are errors: a typo in a limit must not be ignored. The tags doc and enum are what
// the schema says of a key.
type config struct {
	Listen    string              `yaml:"listen" doc:"Address to listen on." restart:""`
	DataDir   string              `yaml:"data_dir" doc:"Where the journal, the log and the routers live." restart:""`
	Catalog   string              `yaml:"catalog" doc:"A catalog file or public price list that is laid over what the program carries."`
	Providers []providerConfig    `yaml:"providers" doc:"Vendors of the catalog by their name, or any OpenAI-compatible endpoint."`
	Aliases   map[string]nameList `yaml:"aliases" doc:"Further names of models: each stands for one model or several. As auto/<alias> the router chooses among them."`
	Fallbacks map[string]nameList `yaml:"fallbacks" doc:"Models that stand in for a named one, in order, where the request lists none."`

	Policies map[string]rules.PolicyConfig `yaml:"policies" doc:"Demands by name, for keys, teams, organizations, rules, and requests whose key has the permission policy:override."`
	Rules    []rules.Config                `yaml:"rules" doc:"What holds for the requests that a rule matches. Of a strategy, a policy or a pin the first that matches counts; what they allow and deny adds up."`

	Capacity capacityConfig `yaml:"capacity" restart:"" doc:"What the process does at once. What comes beyond it is refused at once, with 503 and retry-after."`
	Router   routerConfig   `yaml:"router" restart:""`
	Routing  routingConfig  `yaml:"routing"`
	Sessions sessionsConfig `yaml:"sessions" restart:""`
	Journal  journalConfig  `yaml:"journal" restart:""`
	Log      logConfig      `yaml:"log" restart:""`

	Idempotency idempotencyConfig `yaml:"idempotency" restart:"" doc:"What is remembered of requests with an Idempotency-Key."`

	Shutdown shutdownConfig           `yaml:"shutdown" restart:""`
	Keys     []governance.KeyConfig   `yaml:"keys" doc:"Who may ask. Without any, everybody on this machine may."`
	Orgs     []governance.OwnerConfig `yaml:"orgs"`
	Teams    []governance.OwnerConfig `yaml:"teams"`

	Streams streamsConfig `yaml:"streams"`

	BudgetStatus int `yaml:"budget_http_status" doc:"The status of a refusal for want of budget: 429, as OpenAI has it, unless it is 402."`

	DebugHeaders bool `yaml:"debug_headers" doc:"Answer with what the provider says of its rate limits too, in headers that begin with x-upstream-."`

	Metrics metricsConfig `yaml:"metrics" restart:""`

	// Gates check answers, and GatePolicies say whose.
	Gates        []gate.Config       `yaml:"gates" doc:"Checks of answers, by name."`
	GatePolicies []gate.PolicyConfig `yaml:"gate_policies" doc:"Whose answers are checked by which gates, and what follows."`

	// source is the file as it was parsed.
	source ast.Node
	// files are those that it was read from, and sum is their fingerprint, so that a change of one is seen.
	files []string
	sum   string
	// substituted are the secrets that were put into the file.
	substituted []telemetry.Secret
}

// nameList is one name or a list of them.
type nameList []string

// UnmarshalYAML accepts both.
func (l *nameList) UnmarshalYAML(unmarshal func(any) error) error {
	var one string
	if unmarshal(&one) == nil {
		*l = nameList{one}
		return nil
	}
	return unmarshal((*[]string)(l))
}

// providerConfig is one provider: a vendor of the catalog by its name, or any endpoint that speaks a known protocol, with
// its type, a base_url and the models it serves.
type providerConfig struct {
	Name            string             `yaml:"name" doc:"The part of its models' names before the first slash."`
	Type            string             `yaml:"type" enum:"openai,anthropic,google,google-vertex,bedrock,azure" doc:"The protocol that it speaks."`
	BaseURL         string             `yaml:"base_url" doc:"Address up to and with the version."`
	APIKey          telemetry.Secret   `yaml:"api_key" doc:"Its key, such as ${OPENAI_API_KEY} or file:/run/secrets/openai."`
	APIKeys         []telemetry.Secret `yaml:"api_keys" doc:"Several keys, or more beside api_key. They share the requests; one that is rate-limited or refused is passed over."`
	AllowPrivate    bool               `yaml:"allow_private" doc:"Its name may resolve to a private address."`
	OnDisconnect    string             `yaml:"on_disconnect" enum:"cancel,drain" doc:"What becomes of a call whose client has gone. cancel, the default: it is cancelled at once and charged for what came. drain, for a provider that bills to the end whoever listens: it is read to its end for at most a minute, up to 64 at once, and charged what the provider says."`
	APIVersion      string             `yaml:"api_version" doc:"Of Azure's dated API, such as 2024-10-21; without it, its v1."`
	Region          string             `yaml:"region" doc:"Amazon's, such as eu-central-1; without it, AWS_REGION."`
	AccessKeyID     string             `yaml:"access_key_id" doc:"Amazon's; without it, what its SDK finds in the environment, in its own files, or in the machine's role."`
	SecretAccessKey telemetry.Secret   `yaml:"secret_access_key" doc:"Amazon's."`
	SessionToken    telemetry.Secret   `yaml:"session_token" doc:"Amazon's, where its keys expire."`
	Project         string             `yaml:"project" doc:"Google's, on Vertex AI; without it, GOOGLE_VERTEX_PROJECT, or the service account's own."`
	Location        string             `yaml:"location" doc:"Where Vertex AI's models run, such as europe-west4, eu or global; without it, GOOGLE_VERTEX_LOCATION."`
	CredentialsFile string             `yaml:"credentials_file" doc:"The file of a service account's key, for Vertex AI; without it, GOOGLE_APPLICATION_CREDENTIALS."`
	DataCollection  string             `yaml:"data_collection" enum:"allow,deny" doc:"deny: your contract with it says that it does not collect what it is sent, to store it or to learn from it. Requests with provider.data_collection: deny go nowhere else."`
	ZDR             bool               `yaml:"zdr" doc:"Your contract with it says that it keeps nothing of what it is sent (zero data retention), and so collects nothing either. Requests with provider.zdr go nowhere else."`
	Params          paramsConfig       `yaml:",inline"`
	Limits          limitsConfig       `yaml:"limits" doc:"What all its models together may be sent, with all its keys."`
	Models          []modelConfig      `yaml:"models" doc:"What it serves; without them, what the catalog has of it."`
}

// readOn are the providers that are drained.
func (c *config) readOn() map[string]bool {
	names := map[string]bool{}
	for _, p := range c.Providers {
		if p.OnDisconnect == "drain" {
			names[p.Name] = true
		}
	}
	return names
}

type capacityConfig struct {
	Requests int `yaml:"requests" nonzero:"" doc:"The requests that are answered at once; 4096 by default. One organization alone may have nine tenths."`
	BodyMiB  int `yaml:"body_mib" nonzero:"" doc:"All of their bodies, in MiB; 256 by default, at least 64."`
}

// options are those of the package that keeps the bounds.
func (c capacityConfig) options() quota.CapacityOptions {
	return quota.CapacityOptions{Requests: c.Requests, BodyBytes: int64(c.BodyMiB) << 20}
}

// Limits of what may be configured.
const (
	capacityRequestsMax = 50_000 // the ledger knows 100,000 holds, and a request has up to two at once
	capacityBodyMiBMin  = 64     // two bodies of the largest size
	capacityBodyMiBMax  = 1 << 20
)

func (c capacityConfig) validate() error {
	if c.Requests < 0 || c.Requests > capacityRequestsMax {
		return fmt.Errorf("config: capacity.requests is %d, want 1 to %d", c.Requests, capacityRequestsMax)
	}
	if m := c.BodyMiB; m != 0 && (m < capacityBodyMiBMin || m > capacityBodyMiBMax) {
		return fmt.Errorf("config: capacity.body_mib is %d, want %d to %d", m, capacityBodyMiBMin, capacityBodyMiBMax)
	}
	return nil
}

type idempotencyConfig struct {
	Hours      float64 `yaml:"hours" nonzero:"" doc:"How long a key is remembered; 24 by default, and at least."`
	Keys       int     `yaml:"keys" nonzero:"" doc:"The most keys that are remembered; 200,000 by default. Beyond it, whoever has most of them loses the oldest."`
	AnswersMiB int     `yaml:"answers_mib" nonzero:"" doc:"All answers that are kept, in MiB; 256 by default, and the disk takes about twice that. Beyond it, whoever has most loses the oldest answer."`
}

// Limits of what may be remembered.
const (
	idempotencyHoursMin = 24 // what clients are promised
	idempotencyHoursMax = 30 * 24
	idempotencyKeysMin  = 1000
	idempotencyKeysMax  = 5_000_000 // about a gigabyte of memory
	idempotencyMiBMin   = 16        // the largest answer
	idempotencyMiBMax   = 1 << 20
)

func (i *idempotencyConfig) validate() error {
	if h := i.Hours; h != 0 && !(h >= idempotencyHoursMin && h <= idempotencyHoursMax) {
		return fmt.Errorf("config: idempotency.hours is %v, want %d to %d", h, idempotencyHoursMin, idempotencyHoursMax)
	}
	if n := i.Keys; n != 0 && (n < idempotencyKeysMin || n > idempotencyKeysMax) {
		return fmt.Errorf("config: idempotency.keys is %d, want %d to %d", n, idempotencyKeysMin, idempotencyKeysMax)
	}
	if n := i.AnswersMiB; n != 0 && (n < idempotencyMiBMin || n > idempotencyMiBMax) {
		return fmt.Errorf("config: idempotency.answers_mib is %d, want %d to %d", n, idempotencyMiBMin, idempotencyMiBMax)
	}
	return nil
}

// options are those of the package that remembers. Keys are as safe as decisions: one must not be lost where the other is not.
func (i *idempotencyConfig) options(sync journal.Sync) idempotency.Options {
	return idempotency.Options{
		AgeMax: time.Duration(i.Hours * float64(time.Hour)), KeysMax: i.Keys, BytesMax: int64(i.AnswersMiB) << 20, Sync: sync == journal.Always,
	}
}

type routerConfig struct {
	Artifact string `yaml:"artifact" doc:"An artifact or a registry; without it, the registry in the data directory."`
}

type routingConfig struct {
	Strategy string                  `yaml:"strategy" enum:"cost,latency,balanced,availability,quality"`
	Policy   string                  `yaml:"policy" doc:"The name of a policy for everybody."`
	Target   governance.TargetConfig `yaml:"target" doc:"Of everybody's requests together; keys, teams and organizations may have targets of their own."`
	Epsilon  *float64                `yaml:"epsilon" doc:"The share of traffic that explores, 0 to 1."`
	Traffic  string                  `yaml:"traffic" enum:"known,shifting,auto" doc:"known: prompts like those that the router was trained on. shifting: tasks that nobody trained on may come. auto: known, and shifting while the prompts that come are unlike those of training."`
	Attempts int                     `yaml:"attempts" nonzero:"" doc:"The most attempts at one request, 1 to 3."`
	Timeout  float64                 `yaml:"timeout_seconds" nonzero:"" doc:"The longest that one request may take, all attempts together."`
	Patience patienceConfig          `yaml:",inline"`
	OnPolicy bool                    `yaml:"failover_on_policy" doc:"Whether another model may be asked what one refused for its content."`
}

// sessionsConfig is for how long, and of how many conversations, the arm is remembered.
type sessionsConfig struct {
	Idle float64 `yaml:"idle_seconds" doc:"How long a conversation stays with its model after its last request; 1800 by default."`
	Max  int     `yaml:"max" doc:"The most conversations that are remembered; 131072 by default."`
}

func (s *sessionsConfig) options() session.Options {
	return session.Options{Idle: time.Duration(s.Idle * float64(time.Second)), Max: s.Max}
}

// streamsConfig is how streams are kept alive. Fifteen seconds are less than what stands between a client and us usually waits.
type streamsConfig struct {
	KeepAlive *float64 `yaml:"keep_alive_seconds" doc:"How long a stream may be silent before its client gets a comment line; 15 by default, and 0 never sends one: a few clients cannot read them."`
}

const (
	keepAliveDefault = 15
	keepAliveMax     = 3600
)

func (s *streamsConfig) keepAlive() time.Duration {
	if s.KeepAlive == nil {
		return keepAliveDefault * time.Second
	}
	return time.Duration(*s.KeepAlive * float64(time.Second))
}

func (s *streamsConfig) validate() error {
	if v := s.KeepAlive; v != nil && *v != 0 && !(*v >= 1 && *v <= keepAliveMax) {
		return fmt.Errorf("config: streams.keep_alive_seconds is %v, want 0 (never) or 1 to %d", *v, keepAliveMax)
	}
	return nil
}

type journalConfig struct {
	Sync         string `yaml:"sync" enum:"write,always" doc:"write: a killed process loses nothing. always: nor does a power loss."`
	SegmentBytes int64  `yaml:"segment_bytes" nonzero:"" doc:"The size beyond which a segment is sealed."`
}

func (j *journalConfig) validate() error {
	if j.SegmentBytes < 0 {
		return fmt.Errorf("config: journal.segment_bytes is %d, want more than 0", j.SegmentBytes)
	}
	return nil
}

// shutdownConfig is what happens between SIGTERM and the end.
type shutdownConfig struct {
	Notice float64  `yaml:"notice_seconds" doc:"How long /readyz says no while requests are still accepted, so that load balancers look elsewhere."`
	Drain  *float64 `yaml:"drain_seconds" doc:"How long open requests may go on after that; 30 by default. Streams that are still open then end with an error event, as they do at a second signal."`
}

type logConfig struct {
	RetentionDays int `yaml:"retention_days" doc:"How long sealed rounds and feedback are kept; 0 is for ever."`
}

type metricsConfig struct {
	Public       bool `yaml:"public" doc:"Serve /metrics on an address that others can reach."`
	TenantLabels bool `yaml:"tenant_labels" doc:"Tell requests, tokens, costs and budgets apart by organization and team: as many more series as there are teams."`
}

// loadConfig reads the file (none is fine), then the environment, which is stronger.
// Flags are stronger still: override applies them before anything is validated.
func loadConfig(file string, getenv func(string) string, override func(*config)) (*config, error) {
	c := &config{Listen: "127.0.0.1:8080", DataDir: "tradewind-data"}
	if file == "" {
		file = getenv("TRADEWIND_CONFIG")
	}
	if file != "" {
		c.files = []string{file}
		before := fingerprint(c.files)
		defer func() {
			if fingerprint(c.files[:1]) == before { // else it changed while it was read, and must be read again
				c.sum = fingerprint(c.files)
			}
		}()
		text, err := readLimited(file, configBytesMax)
		if err != nil {
			return c, fmt.Errorf("config: %w", err)
		}
		if err := parseConfig(c, text, getenv); err != nil {
			return c, fmt.Errorf("config: %s: %w", file, err)
		}
	}
	if v := getenv("TRADEWIND_LISTEN"); v != "" {
		c.Listen = v
	} else if v := getenv("PORT"); v != "" {
		c.Listen = "127.0.0.1:" + v
	}
	if v := getenv("TRADEWIND_DATA_DIR"); v != "" {
		c.DataDir = v
	}
	if c.Catalog != "" {
		c.files = append(c.files, c.Catalog)
	}
	for i := range c.Providers {
		if file := c.Providers[i].CredentialsFile; file != "" {
			c.files = append(c.files, file)
		}
	}
	override(c)
	return c, c.validate()
}

func readLimited(file string, most int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > most {
		return nil, fmt.Errorf("%s is larger than %d bytes", file, most)
	}
	return text, nil
}

// validate checks what no single value shows. What a key may hold was checked where the file was read.
func (c *config) validate() error {
	if e := c.Routing.Epsilon; e != nil && !(*e >= 0 && *e <= 1) {
		return fmt.Errorf("config: routing.epsilon is %v, want a share between 0 and 1", *e)
	}
	if n := c.BudgetStatus; n != 0 && n != http.StatusTooManyRequests && n != http.StatusPaymentRequired {
		return fmt.Errorf("config: budget_http_status is %d, want 429 or 402", n)
	}
	if n := c.Routing.Attempts; n < 0 || n > 3 {
		return fmt.Errorf("config: routing.attempts is %d, want 1 to 3", n)
	}
	if d := c.Routing.Timeout; !(d >= 0 && d <= 3600) {
		return fmt.Errorf("config: routing.timeout_seconds is %v, want more than 0 and at most 3600", d)
	}
	if s := c.Sessions; !(s.Idle >= 0 && s.Idle <= sessionIdleMax) || s.Max < 0 || s.Max > sessionsMax {
		return fmt.Errorf("config: sessions: idle_seconds %v and max %d, want 0 (the default) to %d and to %d", s.Idle, s.Max, sessionIdleMax, sessionsMax)
	}
	if d := c.Log.RetentionDays; d < 0 || d > datasets.RetentionDaysMax {
		return fmt.Errorf("config: log.retention_days is %d, want 0 (keep all) to %d", d, datasets.RetentionDaysMax)
	}
	if err := cmp.Or(c.Shutdown.validate(), c.Capacity.validate(), c.Streams.validate(), c.Routing.Patience.validate("routing"), c.Idempotency.validate(), c.Journal.validate()); err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, p := range c.Providers {
		if p.Name == "" || strings.Contains(p.Name, "/") || seen[p.Name] {
			return fmt.Errorf("config: providers: the name %q is empty, has a slash or stands twice", p.Name)
		}
		seen[p.Name] = true
		if p.ZDR && p.DataCollection == "allow" {
			return fmt.Errorf("config: provider %s: it has zdr, so it keeps nothing, and data_collection: allow says that it collects", p.Name)
		}
		if err := cmp.Or(p.validateKeys(), p.Limits.validate("provider "+p.Name)); err != nil {
			return err
		}
		if err := p.Params.validate("provider " + p.Name); err != nil {
			return err
		}
		for i := range p.Models {
			if err := p.Models[i].validate(p.Name); err != nil {
				return err
			}
		}
	}
	if err := c.validateGates(); err != nil {
		return err
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return fmt.Errorf("config: listen is %q, want an address and a port, such as 127.0.0.1:8080", c.Listen)
	}
	if len(c.Keys) == 0 && !loopback(c.Listen) {
		return fmt.Errorf("listening on %s without a key would let anyone spend your money: configure `keys:`, each with a `key:`, or listen on 127.0.0.1. This makes one: %s", c.Listen, governance.MakeKey)
	}
	return nil
}

// loopback reports whether addr can be reached from this machine only.
func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// secrets lists every secret of the configuration, for the log's redaction.
func (c *config) secrets() []telemetry.Secret {
	all := slices.Clone(c.substituted)
	for _, p := range c.Providers {
		all = append(append(all, p.APIKey, p.SecretAccessKey, p.SessionToken), p.APIKeys...)
	}
	for _, k := range c.Keys {
		all = append(all, k.Key)
	}
	for _, g := range c.Gates {
		if g.Webhook != nil {
			all = append(all, g.Webhook.Bearer)
		}
	}
	return all
}

// shutdownSecondsMax bounds either wait: an orchestrator kills long before.
const shutdownSecondsMax = 3600

func (s *shutdownConfig) validate() error {
	if n := s.Notice; n < 0 || n > shutdownSecondsMax {
		return fmt.Errorf("config: shutdown.notice_seconds is %v, want 0 to %d", n, shutdownSecondsMax)
	}
	if d := s.Drain; d != nil && (*d < 0 || *d > shutdownSecondsMax) {
		return fmt.Errorf("config: shutdown.drain_seconds is %v, want 0 to %d", *d, shutdownSecondsMax)
	}
	return nil
}

// waits are the two as durations.
func (s *shutdownConfig) waits() (notice, drain time.Duration) {
	drain = drainFor
	if s.Drain != nil {
		drain = time.Duration(*s.Drain * float64(time.Second))
	}
	return time.Duration(s.Notice * float64(time.Second)), drain
}
