package catalog

// The protocols that vendors speak.
const (
	ProtocolOpenAI    = "openai"
	ProtocolAnthropic = "anthropic"
	ProtocolGoogle    = "google"
	ProtocolVertex    = "google-vertex"
	ProtocolBedrock   = "bedrock"
	ProtocolAzure     = "azure"
)

// Protocol is what the vendor speaks.
func (p *Provider) Protocol() string {
	switch p.Name {
	case "anthropic", "google", "google-vertex", "azure":
		return p.Name
	case "amazon-bedrock":
		return ProtocolBedrock
	}
	return ProtocolOpenAI
}

// Provider is a vendor whose protocol is spoken here: where it is and which environment variables may hold its key.
type Provider struct {
	Name    string
	BaseURL string
	// KeyVars are in order: the first one set wins.
	KeyVars []string
	// OutputCap is the vendor's name for the cap on an answer's tokens, where it refuses the usual max_tokens.
	OutputCap string
}

// Providers returns the known vendors. A base URL ends where /chat/completions, /messages or /models is appended. Azure has
// an address for each of its users, and Bedrock and Vertex AI one for each region. What proves who calls Vertex AI is a file.
// OPENAI_BASE_URL is not looked at: it is a client's variable and would point Tradewind at itself.
func Providers() []Provider {
	return []Provider{
		{"openai", "https://api.openai.com/v1", []string{"OPENAI_API_KEY"}, "max_completion_tokens"},
		{"anthropic", "https://api.anthropic.com/v1", []string{"ANTHROPIC_API_KEY"}, ""},
		{"mistral", "https://api.mistral.ai/v1", []string{"MISTRAL_API_KEY"}, ""},
		{"deepseek", "https://api.deepseek.com/v1", []string{"DEEPSEEK_API_KEY"}, ""},
		{"xai", "https://api.x.ai/v1", []string{"XAI_API_KEY"}, ""},
		{"groq", "https://api.groq.com/openai/v1", []string{"GROQ_API_KEY"}, ""},
		{"cerebras", "https://api.cerebras.ai/v1", []string{"CEREBRAS_API_KEY"}, ""},
		{"togetherai", "https://api.together.xyz/v1", []string{"TOGETHER_API_KEY"}, ""},
		{"fireworks-ai", "https://api.fireworks.ai/inference/v1", []string{"FIREWORKS_API_KEY"}, ""},
		{"deepinfra", "https://api.deepinfra.com/v1/openai", []string{"DEEPINFRA_API_KEY"}, ""},
		{"moonshotai", "https://api.moonshot.ai/v1", []string{"MOONSHOT_API_KEY"}, ""},
		{"zai", "https://api.z.ai/api/paas/v4", []string{"ZAI_API_KEY", "ZHIPU_API_KEY"}, ""},
		{"google", "https://generativelanguage.googleapis.com/v1beta", []string{"GEMINI_API_KEY", "GOOGLE_API_KEY"}, ""},
		{"google-vertex", "", nil, ""},
		{"alibaba", "https://dashscope-intl.aliyuncs.com/compatible-mode/v1", []string{"DASHSCOPE_API_KEY"}, ""},
		{"cohere", "https://api.cohere.ai/compatibility/v1", []string{"COHERE_API_KEY"}, ""},
		{"minimax", "https://api.minimax.io/v1", []string{"MINIMAX_API_KEY"}, ""},
		{"stepfun", "https://api.stepfun.com/v1", []string{"STEPFUN_API_KEY"}, ""},
		{"upstage", "https://api.upstage.ai/v1/solar", []string{"UPSTAGE_API_KEY"}, ""},
		{"xiaomi", "https://api.xiaomimimo.com/v1", []string{"XIAOMI_API_KEY"}, ""},
		{"inception", "https://api.inceptionlabs.ai/v1", []string{"INCEPTION_API_KEY"}, ""},
		{"amazon-bedrock", "", []string{"AWS_BEARER_TOKEN_BEDROCK"}, ""},
		{"azure", "", []string{"AZURE_API_KEY"}, "max_completion_tokens"},
		{"perplexity", "https://api.perplexity.ai", []string{"PERPLEXITY_API_KEY"}, ""},
		{"openrouter", "https://openrouter.ai/api/v1", []string{"OPENROUTER_API_KEY"}, ""},
		{"ollama", "http://127.0.0.1:11434/v1", nil, ""},
	}
}
