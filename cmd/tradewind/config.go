package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/gate"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/telemetry"
)

// configBytesMax bounds a configuration file.
const configBytesMax = 4 << 20

// config is tradewind.yaml. Unknown keys are errors: a typo in a limit must not be ignored.
type config struct {
	Listen    string                   `yaml:"listen"`
	DataDir   string                   `yaml:"data_dir"`
	Providers []providerConfig         `yaml:"providers"`
	Router    routerConfig             `yaml:"router"`
	Routing   routingConfig            `yaml:"routing"`
	Journal   journalConfig            `yaml:"journal"`
	Log       logConfig                `yaml:"log"`
	Keys      []governance.KeyConfig   `yaml:"keys"`
	Orgs      []governance.OwnerConfig `yaml:"orgs"`
	Teams     []governance.OwnerConfig `yaml:"teams"`
	Metrics   metricsConfig            `yaml:"metrics"`
	// Gates check answers, and GatePolicies say whose.
	Gates        []gate.Config       `yaml:"gates"`
	GatePolicies []gate.PolicyConfig `yaml:"gate_policies"`
}

// providerConfig is one provider: a vendor of the catalog by its name, or any OpenAI-compatible endpoint with
// `type: openai`, a base_url and the models it serves.
type providerConfig struct {
	Name         string           `yaml:"name"`
	Type         string           `yaml:"type"`
	BaseURL      string           `yaml:"base_url"`
	APIKey       telemetry.Secret `yaml:"api_key"`
	AllowPrivate bool             `yaml:"allow_private"`
	Models       []modelConfig    `yaml:"models"`
}

// modelConfig is one arm: a name, or an object that overrides what the catalog says of it.
type modelConfig struct {
	Name            string       `yaml:"name"`
	Tier            catalog.Tier `yaml:"tier"`
	ContextTokens   int          `yaml:"context_tokens"`
	MaxOutputTokens int          `yaml:"max_output_tokens"`
	InputUSD        *float64     `yaml:"input_usd_per_mtok"`
	OutputUSD       *float64     `yaml:"output_usd_per_mtok"`
	CacheReadUSD    *float64     `yaml:"cache_read_usd_per_mtok"`
	Free            bool         `yaml:"free"`
	Supports        []string     `yaml:"supports"`
}

// UnmarshalYAML accepts the short form, a plain name.
func (m *modelConfig) UnmarshalYAML(unmarshal func(any) error) error {
	if unmarshal(&m.Name) == nil {
		return nil
	}
	type plain modelConfig
	return unmarshal((*plain)(m))
}

type routerConfig struct {
	// Artifact is an artifact or a registry; default is the registry in the data directory.
	Artifact string `yaml:"artifact"`
}

type routingConfig struct {
	Strategy string   `yaml:"strategy"`
	Epsilon  *float64 `yaml:"epsilon"`
	// Traffic is "known" (prompts like those trained on) or "shifting" (tasks nobody trained on may come).
	Traffic string `yaml:"traffic"`
}

type journalConfig struct {
	// Sync is "write" (a killed process loses nothing) or "always" (nor does a power loss).
	Sync string `yaml:"sync"`
	// SegmentBytes is the size beyond which a segment is sealed; 0 is 8 MiB.
	SegmentBytes int64 `yaml:"segment_bytes"`
}

type logConfig struct {
	// RetentionDays is how long sealed rounds and feedback are kept; 0 is for ever.
	RetentionDays int `yaml:"retention_days"`
}

type metricsConfig struct {
	Public bool `yaml:"public"`
}

// loadConfig reads the file (none is fine), then the environment, which is stronger.
// Flags are stronger still: override applies them before anything is validated.
func loadConfig(file string, getenv func(string) string, override func(*config)) (*config, error) {
	c := &config{Listen: "127.0.0.1:8080", DataDir: "tradewind-data"}
	if file == "" {
		file = getenv("TRADEWIND_CONFIG")
	}
	if file != "" {
		text, err := readLimited(file)
		if err != nil {
			return nil, fmt.Errorf("config: %w", err)
		}
		if err := parseConfig(c, text, getenv); err != nil {
			return nil, fmt.Errorf("config: %s: %w", file, err)
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
	override(c)
	return c, c.validate()
}

func readLimited(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, configBytesMax+1))
	if err != nil {
		return nil, err
	}
	if len(text) > configBytesMax {
		return nil, fmt.Errorf("%s is larger than %d bytes", file, configBytesMax)
	}
	return text, nil
}

// parseConfig substitutes variables in the values of the parsed file, never in its text: a variable's value cannot
// change the structure.
func parseConfig(c *config, text []byte, getenv func(string) string) error {
	f, err := parser.ParseBytes(text, 0)
	if err != nil {
		return yamlError(err)
	}
	var body ast.Node
	for _, doc := range f.Docs {
		switch {
		case doc.Body == nil || doc.Body.Type() == ast.CommentType:
		case body != nil:
			return fmt.Errorf("line %d: a second document begins; only one is read", doc.Body.GetToken().Position.Line)
		default:
			body = doc.Body
		}
	}
	if body == nil {
		return nil
	}
	var missing error
	ast.Walk(substitution{getenv, &missing}, body)
	if missing != nil {
		return missing
	}
	// The library takes a time that it cannot parse for no time at all: a key would never expire.
	decoder := yaml.NewDecoder(bytes.NewReader(nil), yaml.Strict(), yaml.CustomUnmarshaler(parseTime))
	if err := decoder.DecodeFromNode(body, c); err != nil {
		return yamlError(err)
	}
	return nil
}

// yamlError is the library's error without the lines around it, which may hold a key.
func yamlError(err error) error { return errors.New(yaml.FormatError(err, false, false)) }

func parseTime(t *time.Time, text []byte) error {
	s := strings.Trim(string(bytes.TrimSpace(text)), `"'`)
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if parsed, err := time.Parse(layout, s); err == nil {
			*t = parsed
			return nil
		}
	}
	return errors.New("a time must be written as 2026-12-31 or 2026-12-31T23:59:59Z")
}

// substitution replaces ${NAME} and ${NAME:-default} in string values.
type substitution struct {
	getenv  func(string) string
	missing *error
}

// Visit implements ast.Visitor.
func (s substitution) Visit(n ast.Node) ast.Visitor {
	str, ok := n.(*ast.StringNode)
	if !ok || !strings.Contains(str.Value, "${") {
		return s
	}
	var out strings.Builder
	rest := str.Value
	for {
		before, after, found := strings.Cut(rest, "${")
		out.WriteString(before)
		if !found {
			break
		}
		expr, tail, closed := strings.Cut(after, "}")
		name, fallback, hasDefault := strings.Cut(expr, ":-")
		value := s.getenv(name)
		switch {
		case !closed:
			*s.missing = fmt.Errorf("line %d: %q has no closing brace", str.Token.Position.Line, str.Value)
			return nil
		case value == "" && !hasDefault:
			*s.missing = fmt.Errorf("line %d: the variable %s is not set; set it or write ${%s:-default}", str.Token.Position.Line, name, name)
			return nil
		case value == "":
			value = fallback
		}
		out.WriteString(value)
		rest = tail
	}
	str.Value = out.String()
	return s
}

// strategies are the values of `strategy` that are served today.
var strategies = []string{"cost", "latency", "balanced", "availability", "quality"}

func (c *config) validate() error {
	if c.Routing.Strategy != "" && !slices.Contains(strategies, c.Routing.Strategy) {
		return fmt.Errorf("config: routing.strategy %q is none of %s", c.Routing.Strategy, strings.Join(strategies, ", "))
	}
	if t := policy.Traffic(c.Routing.Traffic); !t.Known() {
		return fmt.Errorf("config: routing.traffic %q is neither %s nor %s", t, policy.KnownMix, policy.Shifting)
	}
	if e := c.Routing.Epsilon; e != nil && (*e < 0 || *e > 1) {
		return fmt.Errorf("config: routing.epsilon is %v, want a share between 0 and 1", *e)
	}
	if c.Journal.Sync != "" && c.Journal.Sync != "write" && c.Journal.Sync != "always" {
		return fmt.Errorf("config: journal.sync %q is neither write nor always", c.Journal.Sync)
	}
	if d := c.Log.RetentionDays; d < 0 || d > datasets.RetentionDaysMax {
		return fmt.Errorf("config: log.retention_days is %d, want 0 (keep all) to %d", d, datasets.RetentionDaysMax)
	}
	seen := map[string]bool{}
	for _, p := range c.Providers {
		if p.Name == "" || strings.Contains(p.Name, "/") || seen[p.Name] {
			return fmt.Errorf("config: providers: the name %q is empty, has a slash or stands twice", p.Name)
		}
		seen[p.Name] = true
		if p.Type != "" && p.Type != "openai" {
			return fmt.Errorf("config: provider %s: type %q is not served; openai is", p.Name, p.Type)
		}
	}
	for i, k := range c.Keys {
		if k.Strategy != "" && !slices.Contains(strategies, k.Strategy) {
			return fmt.Errorf("config: keys[%d]: strategy %q is none of %s", i, k.Strategy, strings.Join(strategies, ", "))
		}
	}
	if err := c.validateGates(); err != nil {
		return err
	}
	if len(c.Keys) == 0 && !loopback(c.Listen) {
		return fmt.Errorf("listening on %s without a key would let anyone spend your money: configure `keys:`, each with a `key:`, or listen on 127.0.0.1. This makes one: echo sk-tw-$(openssl rand -base64 32 | tr '+/' '-_' | tr -d '=')", c.Listen)
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
	var all []telemetry.Secret
	for _, p := range c.Providers {
		all = append(all, p.APIKey)
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
