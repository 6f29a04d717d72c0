package upstream

// Regions are the base URLs of LangSmith's own regions (LangSmith docs: cloud).
func Regions() []string {
	return []string{
		DefaultBaseURL, "https://eu.api.smith.langchain.com", "https://apac.api.smith.langchain.com", "https://aws.api.smith.langchain.com",
	}
}
