package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

type configImportCmd struct {
	From string `help:"Whose configuration it is." enum:"litellm" required:"" placeholder:"litellm"`
	File string `arg:"" help:"The configuration to import." type:"path"`
}

// Run imports. What cannot be carried over is listed on standard error, never dropped silently.
func (c *configImportCmd) Run(m *Main) error {
	text, err := readLimited(c.File, configBytesMax)
	if err != nil {
		return err
	}
	known, err := catalog.Default()
	if err != nil {
		return err
	}
	out, left, err := importLiteLLM(text, known)
	if err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	for _, l := range left {
		fmt.Fprintf(m.Stderr, "not carried over: %s\n", l)
	}
	fmt.Fprintf(m.Stderr, "%d things were not carried over; check the result with tradewind doctor --config FILE\n", len(left))
	_, err = m.Stdout.Write(out)
	return err
}

// litellmConfig is what is understood of LiteLLM's configuration. Every key that is not here is listed.
type litellmConfig struct {
	Models  []litellmModel `yaml:"model_list"`
	Router  litellmRouter  `yaml:"router_settings"`
	General struct {
		MasterKey string `yaml:"master_key"`
	} `yaml:"general_settings"`
	Settings struct {
		Fallbacks      []map[string][]string `yaml:"fallbacks"`
		WindowFallback []map[string][]string `yaml:"context_window_fallbacks"`
		Retries        *int                  `yaml:"num_retries"`
		Timeout        *float64              `yaml:"request_timeout"`
		MaxBudget      *float64              `yaml:"max_budget"`
		BudgetDuration string                `yaml:"budget_duration"`
		DropParams     *bool                 `yaml:"drop_params"`
	} `yaml:"litellm_settings"`
}

type litellmRouter struct {
	Fallbacks      []map[string][]string   `yaml:"fallbacks"`
	WindowFallback []map[string][]string   `yaml:"context_window_fallbacks"`
	Retries        *int                    `yaml:"num_retries"`
	Timeout        *float64                `yaml:"timeout"`
	Strategy       string                  `yaml:"routing_strategy"`
	Aliases        map[string]litellmAlias `yaml:"model_group_alias"`
}

// litellmAlias is a further name of a model: a plain name, or an object.
type litellmAlias struct {
	Model  string `yaml:"model"`
	Hidden bool   `yaml:"hidden"`
}

// UnmarshalYAML accepts both.
func (a *litellmAlias) UnmarshalYAML(unmarshal func(any) error) error {
	if unmarshal(&a.Model) == nil {
		return nil
	}
	type plain litellmAlias
	return unmarshal((*plain)(a))
}

type litellmModel struct {
	Name   string `yaml:"model_name"`
	Params struct {
		Model      string       `yaml:"model"`
		APIBase    string       `yaml:"api_base"`
		APIKey     string       `yaml:"api_key"`
		DropParams *bool        `yaml:"drop_params"`
		Vertex     vertexPlace  `yaml:",inline"`
		AWS        awsPlace     `yaml:",inline"`
		Price      litellmPrice `yaml:",inline"`
		RPM        *int         `yaml:"rpm"`
		TPM        *int         `yaml:"tpm"`
		Order      *int         `yaml:"order"`
		Weight     *float64     `yaml:"weight"`
		Timeout    *float64     `yaml:"timeout"`
	} `yaml:"litellm_params"`
	Info struct {
		Price     litellmPrice `yaml:",inline"`
		MaxInput  int          `yaml:"max_input_tokens"`
		MaxOutput int          `yaml:"max_output_tokens"`
		Mode      string       `yaml:"mode"`
		BaseModel string       `yaml:"base_model"`
		Tools     *bool        `yaml:"supports_function_calling"`
		Vision    *bool        `yaml:"supports_vision"`
		Schema    *bool        `yaml:"supports_response_schema"`
		Audio     *bool        `yaml:"supports_audio_input"`
		PDF       *bool        `yaml:"supports_pdf_input"`
		Reasoning *bool        `yaml:"supports_reasoning"`
	} `yaml:"model_info"`
}

// vertexPlace is where Vertex AI is called, and for whom.
type vertexPlace struct {
	Project     string `yaml:"vertex_project"`
	Location    string `yaml:"vertex_location"`
	Credentials string `yaml:"vertex_credentials"`
}

// awsPlace is where Amazon Bedrock is called, and for whom.
type awsPlace struct {
	Region       string `yaml:"aws_region_name"`
	AccessKey    string `yaml:"aws_access_key_id"`
	SecretKey    string `yaml:"aws_secret_access_key"`
	SessionToken string `yaml:"aws_session_token"`
}

type litellmPrice struct {
	In         *float64 `yaml:"input_cost_per_token"`
	Out        *float64 `yaml:"output_cost_per_token"`
	CacheRead  *float64 `yaml:"cache_read_input_token_cost"`
	CacheWrite *float64 `yaml:"cache_creation_input_token_cost"`
}

// litellmImport gathers the result.
type litellmImport struct {
	known     *catalog.Catalog
	providers []*importedProvider
	// arms are the models of each name of the list, in its order.
	names     []string
	arms      map[string][]string
	fallbacks map[string][]string
	// direct are the names of models that are not for chat: no other stands in for them.
	direct map[string]bool
	left   []string
}

type importedProvider struct {
	name, base, key string
	// vendor is the name without the number of a further key or address.
	vendor string
	// kind is the protocol where the name does not say it; vertex is empty but for Vertex AI, and aws but for Bedrock.
	kind   string
	vertex vertexPlace
	aws    awsPlace
	models yaml.MapSlice // by name, so that one is there once
	all    bool          // of the vendor's models, those of the catalog are served as well
	limits yaml.MapSlice // of all its models together
	sent   map[string]yaml.MapSlice
}

func (i *litellmImport) leave(format string, args ...any) {
	i.left = append(i.left, fmt.Sprintf(format, args...))
}

// importLiteLLM turns a configuration of LiteLLM into one of ours and lists what was left out. References to variables
// (os.environ/NAME) stay what they are.
func importLiteLLM(text []byte, known *catalog.Catalog) (out []byte, left []string, err error) {
	body, err := parseYAML(text)
	if err != nil {
		return nil, nil, err
	}
	if body == nil {
		return nil, nil, errors.New("the file is empty")
	}
	var in litellmConfig
	i := litellmImport{known: known, arms: map[string][]string{}, fallbacks: map[string][]string{}, direct: map[string]bool{}}
	r := configReader{unknown: func(line int, path string) { i.leave("line %d: %s", line, path) }}
	r.check(body, reflect.TypeFor[litellmConfig](), "")
	if len(r.problems) > 0 {
		return nil, nil, r.problems
	}
	if err := decodeYAML(body, &in); err != nil {
		return nil, nil, err
	}
	drops := in.Settings.DropParams != nil && *in.Settings.DropParams
	for n := range in.Models {
		i.model(&in.Models[n])
		drops = drops || in.Models[n].Params.DropParams != nil && *in.Models[n].Params.DropParams
	}
	if drops {
		i.leave("drop_params for what changes the answer (tools, tool_choice, response_format, n, stop, logprobs, reasoning): a model that cannot be told it is passed over")
	}
	if len(i.providers) == 0 {
		return nil, i.left, errors.New("no model of its model_list can be carried over: " + strings.Join(i.left, "; "))
	}
	i.fallback(&in)
	var doc yaml.MapSlice
	doc = append(doc, yaml.MapItem{Key: "providers", Value: i.providerList(in.Settings.DropParams)})
	if aliases := i.aliases(&in); len(aliases) > 0 {
		doc = append(doc, yaml.MapItem{Key: "aliases", Value: aliases})
	}
	if len(i.fallbacks) > 0 {
		doc = append(doc, yaml.MapItem{Key: "fallbacks", Value: i.fallbacks})
	}
	if routing := i.routing(&in); len(routing) > 0 {
		doc = append(doc, yaml.MapItem{Key: "routing", Value: routing})
	}
	doc = append(doc, i.keys(&in)...)
	out, err = yaml.Marshal(doc)
	return out, i.left, err
}

// model takes one deployment of the list.
func (i *litellmImport) model(m *litellmModel) {
	provider, name, ok := strings.Cut(m.Params.Model, "/")
	if !ok {
		if provider, name = i.providerOf(m.Params.Model), m.Params.Model; provider == "" {
			i.leave("model %s: nobody knows the provider of %q", m.Name, m.Params.Model)
			return
		}
	}
	mode := catalog.Mode(m.Info.Mode)
	if vendor := (catalog.Provider{Name: catalog.ForeignProvider(provider)}); mode == catalog.ModeEmbedding && !(&providerConfig{Type: vendor.Protocol()}).serves(mode) {
		i.leave("model %s: its provider is asked for chat alone", m.Name)
		return
	} else if mode != "" && mode != "chat" && mode != catalog.ModeEmbedding {
		i.leave("model %s: it is for %s, not chat or embeddings", m.Name, mode)
		return
	}
	if why := cmp.Or(i.vertex(m, provider, name), bedrockWay(m, provider, &name)); why != "" {
		i.leave("model %s (%s): %s", m.Name, m.Params.Model, why)
		return
	}
	p, why := i.provider(provider, m)
	if p == nil {
		i.leave("model %s (%s): %s", m.Name, m.Params.Model, why)
		return
	}
	sending := i.sending(m)
	if name == "*" {
		i.everything(m, p, sending)
		return
	}
	if id := catalog.ArmID(p.name + "/" + name); id.Validate() != nil || strings.Contains(name, "*") {
		i.leave("model %s: %q is no name of one model", m.Name, m.Params.Model)
		return
	}
	facts := i.facts(m, provider, p.name, name)
	if !p.has(name) {
		p.models = append(p.models, yaml.MapItem{Key: name, Value: i.overrides(m, name, facts, sending)})
		p.sent[name] = sending
	} else if len(sending) > 0 && !reflect.DeepEqual(sending, p.sent[name]) {
		i.leave("model %s: what it may be sent and when: %s/%s stands in the list before, and what is said there holds", m.Name, p.name, name)
	}
	if i.arms[m.Name] == nil {
		i.names = append(i.names, m.Name)
	}
	id := p.name + "/" + name
	if !slices.Contains(i.arms[m.Name], id) {
		i.arms[m.Name] = append(i.arms[m.Name], id)
	}
	if a, ok := i.known.Lookup(catalog.ArmID(id)); ok {
		facts = a
	}
	if mode == catalog.ModeEmbedding || mode == "" && facts != nil && facts.Mode != catalog.ModeChat {
		i.direct[m.Name] = true
	}
}

// has reports whether a model is there.
func (p *importedProvider) has(name string) bool {
	return slices.ContainsFunc(p.models, func(item yaml.MapItem) bool { return item.Key == name })
}

// providerOf is the vendor of a model without a prefix, as the catalog knows it.
func (i *litellmImport) providerOf(model string) string {
	for _, v := range catalog.Providers() {
		if _, ok := i.known.Lookup(catalog.ArmID(v.Name + "/" + model)); ok {
			return v.Name
		}
	}
	for _, a := range i.known.Arms() {
		if a.ID.Model() == model {
			return a.ID.Provider()
		}
	}
	return ""
}

// compatible are names under which LiteLLM calls any server that speaks OpenAI's protocol, with the end of its address.
var compatible = map[string]string{
	"openai": "", "custom_openai": "", "openai_like": "", "hosted_vllm": "", "vllm": "", "lm_studio": "", "llamafile": "", "litellm_proxy": "",
	"ollama": "/v1", "ollama_chat": "/v1", "azure": "/openai/v1",
}

// provider finds or makes the provider of a deployment. Two keys or addresses of one vendor are two providers.
func (i *litellmImport) provider(theirs string, m *litellmModel) (*importedProvider, string) {
	base, key, place, account := m.Params.APIBase, m.Params.APIKey, m.Params.Vertex, m.Params.AWS
	name := catalog.ForeignProvider(theirs)
	suffix, speaks := compatible[theirs]
	vendor := slices.ContainsFunc(catalog.Providers(), func(v catalog.Provider) bool { return v.Name == name })
	if variable, ok := strings.CutPrefix(base, "os.environ/"); ok {
		base = "${" + variable + "}"
	}
	switch base = strings.TrimSuffix(base, "/"); {
	case base != "" && (speaks || vendor):
		if !strings.HasSuffix(base, suffix) {
			base += suffix
		}
		host := hostName(base)
		if theirs != "azure" && speaks && host != "api.openai.com" { // not the vendor whose facts the catalog has
			name = host
		}
		if name == "" {
			return nil, "its api_base is a variable, which gives no name: write the provider yourself"
		}
	case base != "":
		return nil, "an api_base of a provider whose protocol is not spoken yet"
	case !vendor:
		return nil, "its provider's protocol is not spoken yet"
	}
	taken := 0
	for _, p := range i.providers {
		if p.vendor != name {
			continue
		}
		if p.base == base && p.key == key && p.vertex == place && p.aws == account {
			return p, ""
		}
		taken++
	}
	kind, vendorName := "", name
	if taken > 0 {
		if protocol := (&catalog.Provider{Name: name}).Protocol(); protocol != catalog.ProtocolOpenAI {
			kind = protocol
		}
		name = fmt.Sprintf("%s-%d", name, taken+1)
		if base == "" { // only a vendor's own name brings its address
			for _, v := range catalog.Providers() {
				if v.Name == catalog.ForeignProvider(theirs) {
					base = v.BaseURL
				}
			}
		}
	}
	p := &importedProvider{name: name, vendor: vendorName, base: base, key: key, kind: kind, vertex: place, aws: account, sent: map[string]yaml.MapSlice{}}
	i.providers = append(i.providers, p)
	return p, ""
}

// hostName makes a provider's name of an address.
func hostName(base string) string {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" {
		return ""
	}
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' || r == '-' {
			return r
		}
		return '-'
	}, strings.ToLower(u.Host))
}
