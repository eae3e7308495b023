package telemetry

import "strings"

// This file holds every name that OpenTelemetry's conventions for generative AI give, because they are still in development
// and change: see https://opentelemetry.io/docs/specs/semconv/gen-ai/. Names of our own begin with tradewind.
const (
	attrOperation     = "gen_ai.operation.name"
	attrProvider      = "gen_ai.provider.name"
	attrAddress       = "server.address"
	attrRequestModel  = "gen_ai.request.model"
	attrTemperature   = "gen_ai.request.temperature"
	attrTopP          = "gen_ai.request.top_p"
	attrMaxTokens     = "gen_ai.request.max_tokens"
	attrSeed          = "gen_ai.request.seed"
	attrStop          = "gen_ai.request.stop_sequences"
	attrResponseID    = "gen_ai.response.id"
	attrResponseModel = "gen_ai.response.model"
	attrFinish        = "gen_ai.response.finish_reasons"
	attrInput         = "gen_ai.usage.input_tokens"
	attrOutput        = "gen_ai.usage.output_tokens"
	attrCacheRead     = "gen_ai.usage.cache_read.input_tokens"
	attrCacheWrite    = "gen_ai.usage.cache_creation.input_tokens"
	attrReasoning     = "gen_ai.usage.reasoning.output_tokens"
	attrConversation  = "gen_ai.conversation.id"
	attrErrorType     = "error.type"
	attrTokenType     = "gen_ai.token.type"

	attrDecision        = "tradewind.decision.id"
	attrReason          = "tradewind.decision.reason"
	attrStrategy        = "tradewind.decision.strategy"
	attrPolicy          = "tradewind.decision.policy"
	attrRouterVersion   = "tradewind.decision.router_version"
	attrPropensity      = "tradewind.decision.propensity"
	attrExplored        = "tradewind.decision.explored"
	attrExpectedQuality = "tradewind.decision.expected_quality"
	attrExpectedCost    = "tradewind.decision.expected_cost_usd"
	attrCandidates      = "tradewind.decision.candidates"
	attrFiltered        = "tradewind.decision.filtered"
	attrCost            = "tradewind.cost_usd"
	attrCostStatus      = "tradewind.cost_status"
	attrAttempt         = "tradewind.attempt"
	attrOrg             = "tradewind.org"
	attrTeam            = "tradewind.team"

	metricTokens      = "gen_ai.client.token.usage"
	metricOperation   = "gen_ai.client.operation.duration"
	metricRequest     = "gen_ai.server.request.duration"
	metricFirstToken  = "gen_ai.server.time_to_first_token"
	metricPerToken    = "gen_ai.server.time_per_output_token"
	spanRoute         = "route"
	tokenInput        = "input"
	tokenOutput       = "output"
	instrumentationID = "github.com/tradewind-llm/tradewind/serving"
)

// providerNames are the conventions' names of providers that are called otherwise here.
var providerNames = map[string]string{
	"google": "gcp.gemini", "google-vertex": "gcp.vertex_ai", "azure": "azure.ai.openai", "amazon-bedrock": "aws.bedrock",
	"mistral": "mistral_ai", "xai": "x_ai",
}

func providerName(provider string) string {
	if name, ok := providerNames[provider]; ok {
		return name
	}
	return provider
}

// operation is the conventions' name of what a surface does.
func operation(surface string) string {
	switch {
	case strings.HasPrefix(surface, "embedding"):
		return "embeddings"
	case strings.HasPrefix(surface, "completion"):
		return "text_completion"
	}
	return "chat"
}
