package diagnose

import (
	"strings"
	"testing"
)

func TestCheckEndpointNamesTheCauseAndWhatWouldBeRight(t *testing.T) {
	tests := []struct {
		name, raw string
		code      Code
		sure      bool
		says      string
		remedy    string
	}{
		{"angle brackets", "<https://api.smith.langchain.com>", EndpointMalformed, true, "angle brackets", "https://api.smith.langchain.com"},
		{"quotes inside", `https://api.smith.langchain.com"`, EndpointMalformed, true, "quotes", "without them"},
		{"quotes around", `"https://api.smith.langchain.com"`, EndpointMalformed, false, "quotes around", "without quotes"},
		{"blank behind", "https://api.smith.langchain.com ", EndpointMalformed, false, "blanks around", "without blanks"},
		{"blank inside", "https://api.smith .langchain.com", EndpointMalformed, true, "cannot be read", "https://api.smith.langchain.com"},
		{"nothing", " ", EndpointMalformed, true, "empty", "https://api.smith.langchain.com"},
		{"variable not expanded", "${LANGSMITH_ENDPOINT}", EndpointMalformed, true, "not expanded", "the value itself"},
		{"the key", goodPersonal, EndpointMalformed, true, "is an API key", "LANGSMITH_API_KEY"},
		{"dots", "https://...", EndpointMalformed, true, "names no host", "https://api.smith.langchain.com"},
		{"no scheme", "api.smith.langchain.com", EndpointMalformed, true, "no scheme", "https://api.smith.langchain.com"},
		{"no scheme, local", "localhost:8000", EndpointMalformed, true, "no scheme", "http://localhost:8000"},
		{"one slash", "https:/api.smith.langchain.com", EndpointMalformed, true, "misspelt", "https://api.smith.langchain.com"},
		{"no colon", "https//api.smith.langchain.com", EndpointMalformed, true, "misspelt", "https://api.smith.langchain.com"},
		{"semicolon", "https;//api.smith.langchain.com", EndpointMalformed, true, "misspelt", "https://api.smith.langchain.com"},
		{"letter lost", "htps://api.smith.langchain.com", EndpointMalformed, true, `"htps"`, "https://api.smith.langchain.com"},
		{"letter lost at the head", "ttps://api.smith.langchain.com", EndpointMalformed, true, `"ttps"`, "https://api.smith.langchain.com"},
		{"no TLS", "http://eu.api.smith.langchain.com", EndpointMalformed, true, "unencrypted", "https://eu.api.smith.langchain.com"},
		{"web page", "https://smith.langchain.com", UIHost, true, "web page", "https://api.smith.langchain.com"},
		{"web page of a region", "https://eu.smith.langchain.com/o/1/projects", UIHost, true, "web page", "https://eu.api.smith.langchain.com"},
		{"documentation", "https://docs.smith.langchain.com", UIHost, true, "web page", "https://api.smith.langchain.com"},
		{"new documentation", "https://docs.langchain.com/langsmith", UIHost, true, "web page", "https://api.smith.langchain.com"},
		{"path doubled", "https://smith.corp.example/api/v1/api/v1", EndpointPath, true, "twice", "https://smith.corp.example/api/v1"},
		{"runs", "https://api.smith.langchain.com/runs", EndpointPath, true, "/runs", "https://api.smith.langchain.com"},
		{"traces", "https://api.smith.langchain.com/otel/v1/traces", EndpointPath, true, "/otel/v1/traces", "https://api.smith.langchain.com"},
		{"otel", "https://smith.corp.example/api/v1/otel/", EndpointPath, true, "/otel", "https://smith.corp.example/api/v1"},
		{"old default", "http://localhost:1984", EndpointMalformed, false, "old SDKs", "https://api.smith.langchain.com"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			flaws := CheckEndpoint(tt.raw)
			if len(flaws) != 1 {
				t.Fatalf("flaws = %+v, want one", flaws)
			}
			f := flaws[0]
			if f.Code != tt.code || f.Sure != tt.sure || !strings.Contains(f.Says, tt.says) || !strings.Contains(f.Remedy, tt.remedy) {
				t.Errorf("flaw = %+v, want %s (sure: %v) that says %q and has the remedy %q", f, tt.code, tt.sure, tt.says, tt.remedy)
			}
		})
	}
}

func TestCheckEndpointTakesWhatWorks(t *testing.T) {
	for _, raw := range []string{
		"https://api.smith.langchain.com", "https://eu.api.smith.langchain.com/", "https://smith.corp.example/api/v1",
		"http://smith.corp.example:8080/api", "http://127.0.0.1:4318", "https://http.example", "https://httpbin.example",
	} {
		if flaws := CheckEndpoint(raw); len(flaws) > 0 {
			t.Errorf("CheckEndpoint(%q) = %+v, want nothing", raw, flaws)
		}
	}
}

func TestCheckEndpointRepeatsNoSecret(t *testing.T) {
	for _, raw := range []string{
		"https://user:SECRET@smith.corp.example", "user:SECRET@smith.corp.example", "https://user:SECRET@smith.corp.example:x",
		"https://smith.corp.example?key=SECRET", "https://smith.corp.example/#SECRET", "https:/user:SECRET@smith.corp.example",
		"https://smith.corp.example/lsv2_pt_SECRET/otel", "lsv2_sk_SECRET.example",
	} {
		flaws := CheckEndpoint(raw)
		if len(flaws) == 0 {
			t.Errorf("CheckEndpoint(%q) finds nothing", raw)
		}
		for _, f := range flaws {
			if strings.Contains(f.Says+f.Remedy, "SECRET") {
				t.Errorf("CheckEndpoint(%q) repeats a secret: %+v", raw, f)
			}
		}
	}
}

func TestCheckWorkspaceWantsAUUID(t *testing.T) {
	tests := []struct {
		name, id string
		flaws    int
		sure     bool
	}{
		{"none", "", 0, false},
		{"UUID", "0b0f3b3e-8d3c-4b62-9a51-0f9b8f0c7a11", 0, false},
		{"upper case", "0B0F3B3E-8D3C-4B62-9A51-0F9B8F0C7A11", 0, false},
		{"quotes around", `"0b0f3b3e-8d3c-4b62-9a51-0f9b8f0c7a11"`, 1, false},
		{"a number", "1", 1, true},
		{"a name", "My workspace", 1, true},
		{"a placeholder", "<workspace-id>", 1, true},
		{"cut off", "0b0f3b3e-8d3c-4b62-9a51-0f9b8f0c7a1", 1, true},
		{"no hyphens", "0b0f3b3e8d3c4b629a510f9b8f0c7a11", 1, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			flaws := CheckWorkspace(tt.id)
			if len(flaws) != tt.flaws {
				t.Fatalf("flaws = %+v, want %d", flaws, tt.flaws)
			}
			for _, f := range flaws {
				if f.Code != WorkspaceNotUUID || f.Sure != tt.sure || f.Remedy == "" {
					t.Errorf("flaw = %+v, want %s, sure: %v, with a remedy", f, WorkspaceNotUUID, tt.sure)
				}
			}
		})
	}
	if flaws := CheckWorkspace(goodPersonal); len(flaws) != 1 || strings.Contains(flaws[0].Says, "0123456789abcdef") {
		t.Errorf("a key as the id: %+v, want one flaw that does not repeat it", flaws)
	}
}
