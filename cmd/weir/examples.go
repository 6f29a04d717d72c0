package main

import (
	"fmt"
	"strings"

	"github.com/alecthomas/kong"
)

// example is one command line of a command's help, and what it is for.
type example struct{ line, what string }

// examples are those of each command, by its path below weir.
var examples = map[string][]example{
	"run": {
		{"LANGSMITH_API_KEY=lsv2_... weir run", "take traces on the default addresses"},
		{"weir run --config /etc/weir/weir.yaml", "with a configuration file"},
		{"weir run --upstream https://eu.api.smith.langchain.com --api-key-file key.txt", "to LangSmith's region in Europe, with the key from a file"},
	},
	"dev": {
		{"weir dev", "see what an application sends, without LangSmith"},
		{"weir dev --chaos 429=0.2,503=0.1", "with a fifth of all requests refused for now, and a tenth failing"},
	},
	"status": {
		{"weir status", "what weir holds and does"},
		{"weir status --watch", "the same, live, until Ctrl-C"},
		{"weir status --check || notify", "call for a person when one is needed"},
		{"weir status --json | jq -r .totals.pendingItems", "one number for a script"},
	},
	"quota show": {
		{"weir quota", "where the month's traces stand"},
		{"weir quota --json | jq '.scopes[] | {account, tracesUsed, tracesLimit}'", "the same for a script"},
	},
	"quota set": {
		{"weir quota set 3200", "LangSmith's page says 3,200 traces: others send, too"},
		{"weir quota set 3200 --account 5f8c0e7a-5b0f-4c53-9f5e-2d7f4a1c9b11", "where there are several accounts"},
	},
	"quota set-limit": {
		{"weir quota set-limit 10000", "the plan allows more now; held traces go as far as there is room"},
		{"weir quota set-limit default", "the configured limit again"},
	},
	"quota release": {
		{"weir quota release --dry-run", "how many would go"},
		{"weir quota release --traces 100 --project checkout", "at most 100 traces of one project"},
	},
	"quarantine ls": {
		{"weir quarantine", "what was refused, why, and what to do"},
		{"weir quarantine --all --state needs_person", "every case that will not heal by itself"},
	},
	"quarantine show": {
		{"weir quarantine show 3", "the cause, the evidence and LangSmith's answer"},
	},
	"quarantine release": {
		{"weir quarantine release 3 4", "the cause is mended: send two cases again"},
		{"weir quarantine release 3 --as-own-key --dry-run", "what would go under weir's own key"},
	},
	"quarantine discard": {
		{"weir quarantine discard 3 --dry-run", "what would be lost, and what that frees"},
		{"weir quarantine discard --all --yes", "drop all of it without a question"},
	},
	"quarantine export": {
		{"weir quarantine export 3 --out case3.jsonl", "keep it, look at it, mend it"},
		{"weir quarantine export --all --out - | gzip > cases.jsonl.gz", "everything, compressed"},
	},
	"queue ls": {
		{"weir queue", "what is on disk, the oldest first"},
		{"weir queue --state held --limit 20", "the oldest of what the quota keeps back"},
	},
	"queue show": {
		{"weir queue show 12.3041", "one frame of the list, and its traces"},
		{"weir queue show 12.3041 --content", "and what applications sent, prompts and answers included"},
	},
	"queue df": {
		{"weir queue df", "what takes the disk, and what frees it"},
	},
	"queue discard": {
		{"weir queue discard --lane 4 --older-than 48h --dry-run", "what of one lane would be lost"},
		{"weir queue discard 12.3041", "drop one frame, after a question"},
	},
	"find": {
		{"weir find 0199d1f0-7c7e-7b9a-8a57-52a0c2f7b7b1", "where this trace is, and why"},
	},
	"doctor": {
		{"weir doctor", "look at everything between an application and LangSmith"},
		{"weir doctor --regions", "also whether the key belongs to another region"},
	},
	"send-test": {
		{"weir send-test", "through the weir that runs; costs one trace"},
		{"weir send-test --direct", "past weir, straight to LangSmith"},
	},
	"drain": {
		{"weir drain", "before weir is moved or removed"},
		{"weir drain --timeout 5m && systemctl stop weir", "stop weir only if all was delivered"},
	},
	"import": {
		{"weir import case3.jsonl", "take in what `weir quarantine export` wrote"},
		{"weir import /var/tmp/failed_traces --dry-run", "what a LangSmith SDK could not send"},
	},
	"config": {
		{"weir config", "what is in effect, and where each value comes from"},
		{"weir config --config new.yaml", "check a file before weir runs with it"},
	},
	"reload": {
		{"weir reload", "take a changed configuration file without a restart"},
	},
	"log-level": {
		{"weir log-level", "what it is"},
		{"weir log-level debug --for 10m", "see more, for ten minutes"},
		{"weir log-level configured", "back to what the configuration says"},
	},
	"completion": {
		{"weir completion bash > /etc/bash_completion.d/weir", "for bash, from the next shell on"},
		{"weir completion zsh > \"${fpath[1]}/_weir\"", "for zsh"},
		{"weir completion fish > ~/.config/fish/completions/weir.fish", "for fish"},
	},
	"version": {
		{"weir version --json", "for a bug report"},
	},
}

// printHelp prints a command's help, and its examples below it. They are not
// wrapped: a line to copy stays one.
func printHelp(options kong.HelpOptions, ctx *kong.Context) error {
	if err := kong.DefaultHelpPrinter(options, ctx); err != nil {
		return err
	}
	if ctx.Selected() == nil {
		return nil
	}
	var b strings.Builder
	node := ctx.Selected()
	if node.DefaultCmd != nil {
		node = node.DefaultCmd
	}
	for i, e := range examples[node.Path()] {
		if i == 0 {
			b.WriteString("\nExamples:\n")
		} else {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "  # %s\n  %s\n", e.what, e.line)
	}
	_, err := fmt.Fprint(ctx.Stdout, b.String())
	return err
}
