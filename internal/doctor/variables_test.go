package doctor

import (
	"testing"

	"weir/internal/smith"
	"weir/proxy/diagnose"
)

func TestMisspeltVariablesAreFound(t *testing.T) {
	tests := []struct{ name, meant string }{ // meant empty: it is not misspelt
		{"LANGCHAIN_ENDPONIT", "LANGCHAIN_ENDPOINT"},
		{"LANGSMITH_ENDPIONT", "LANGSMITH_ENDPOINT"},
		{"LANGSMITH_APIKEY", "LANGSMITH_API_KEY"},
		{"LANGSMITHAPIKEY", "LANGSMITH_API_KEY"},
		{"LANGSMITH_API_KEYS", "LANGSMITH_API_KEY"},
		{"LANGSMTIH_API_KEY", "LANGSMITH_API_KEY"},
		{"LANGSMTIH_WORKSPACE_ID", "LANGSMITH_WORKSPACE_ID"},
		{"LANG_SMITH_PROJECT", "LANGSMITH_PROJECT"},
		{"LANGSMITH-API-KEY", "LANGSMITH_API_KEY"},
		{"langsmith_api_key", "LANGSMITH_API_KEY"},
		{"LANGCHAIN_TRACING_V", "LANGCHAIN_TRACING_V2"},
		{"LANGSMITH_URL", "LANGSMITH_ENDPOINT"},
		{"LANGSMITH_WORKSPACE", "LANGSMITH_WORKSPACE_ID"},

		{"LANGSMITH_API_KEY", ""},
		{"LANGCHAIN_API_KEY", ""},
		{"LANGCHAIN_TRACING_V2", ""},
		{"LANGCHAIN_TRACING", ""},
		{"LANGCHAIN_HUB_API_KEY", ""},
		{"LANGSMITH_RUNS_ENDPOINTS", ""},
		{"LANGSMITH_OTEL_ENABLED", ""},
		{"LANGSMITH_TRACING_SAMPLING_RATE", ""},
		{"LANGFUSE_PUBLIC_KEY", ""},
		{"LANGFLOW_API_KEY", ""},
		{"LANGGRAPH_API_KEY", ""},
		{"LANG", ""},
		{"LANGUAGE", ""},
		{"OPENAI_API_KEY", ""},
	}
	for _, tt := range tests {
		got, _ := typoOf(tt.name)
		if got.meant != tt.meant {
			t.Errorf("typoOf(%s) = %q, want %q", tt.name, got.meant, tt.meant)
		}
	}
}

func TestAMisspeltVariableNeedsAPersonWhereTheRightOneIsMissing(t *testing.T) {
	_, url := newSmith(t, smith.Config{})
	cfg := newConfig(t, url)
	cfg.Environ = []string{"LANGCHAIN_ENDPONIT=https://eu.api.smith.langchain.com", "LANGSMITH_APIKEY=" + goodKey, "LANGSMITH_PROJCT=x"}
	f := examine(t, cfg)
	f.wants("variables", false, diagnose.EndpointMalformed, "Rename LANGCHAIN_ENDPONIT to LANGCHAIN_ENDPOINT", "LANGSMITH_API_KEY", "LANGSMITH_PROJECT")

	cfg.Environ = append(cfg.Environ, "LANGSMITH_ENDPOINT="+url, "LANGCHAIN_API_KEY="+goodKey)
	examine(t, cfg).wants("variables", true, diagnose.EndpointMalformed, "LANGCHAIN_ENDPONIT is set")

	cfg.Environ = []string{"LANGCHAIN_ENDPONIT="}
	examine(t, cfg).wants("variables", true, "", "no misspelt")
}

func TestFamiliesThatContradictEachOtherAreNamed(t *testing.T) {
	_, url := newSmith(t, smith.Config{})
	cfg := newConfig(t, url)
	cfg.Environ = []string{
		"LANGSMITH_API_KEY=" + goodKey, "LANGCHAIN_API_KEY=lsv2_pt_ffffffffffffffffffffffffffffffff_ffffffffzz",
		"LANGSMITH_PROJECT=a", "LANGCHAIN_PROJECT=b", "LANGSMITH_ENDPOINT=" + url, "LANGCHAIN_ENDPOINT=" + url,
	}
	examine(t, cfg).wants("families", true, diagnose.StaleKey,
		"LANGSMITH_API_KEY (lsv2_…yz) wins over LANGCHAIN_API_KEY (lsv2_…zz); LANGSMITH_PROJECT (a) wins over LANGCHAIN_PROJECT (b)", "Unset LANGCHAIN_API_KEY.")

	cfg.Environ = []string{"LANGSMITH_API_KEY=" + goodKey, "LANGCHAIN_API_KEY=" + goodKey}
	examine(t, cfg).wants("families", true, "", "do not contradict")
}
