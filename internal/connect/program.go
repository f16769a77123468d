package connect

import "strings"

// Program is a short one that asks once, with an official SDK.
type Program struct {
	// Lang is the word for the language, and Name what people call it.
	Lang, Name string
	// File is the program's file, and Text what is in it. It takes address and key from the variables of [SDK].
	File, Text string
	// Run are the commands that fetch the SDK and run the program, in its directory.
	Run []string
}

// Directory is where the programs are put, apart from whatever else is there.
const Directory = "signalbox-hello"

// Programs returns one for each language that there is an official SDK for here.
func Programs() []Program {
	return []Program{
		{"typescript", "TypeScript", "hello.mjs", `import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic(); // reads ANTHROPIC_BASE_URL and ANTHROPIC_API_KEY
const stream = client.messages.stream({
  model: "` + Model + `",
  max_tokens: 64,
  messages: [{ role: "user", content: "Say hello" }],
});
stream.on("text", (text) => process.stdout.write(text));
await stream.finalMessage();
console.log();
`, []string{"npm install --prefix . @anthropic-ai/sdk", "node hello.mjs"}},
		{"python", "Python", "hello.py", `import anthropic

client = anthropic.Anthropic()  # reads ANTHROPIC_BASE_URL and ANTHROPIC_API_KEY
message = client.messages.create(
    model="` + Model + `",
    max_tokens=64,
    messages=[{"role": "user", "content": "Say hello"}],
)
print(message.content[0].text)
`, []string{"python3 -m venv .venv", ".venv/bin/pip install anthropic", ".venv/bin/python hello.py"}},
		{"go", "Go", "main.go", `package main

import (
	"context"
	"fmt"
	"log"

	"github.com/anthropics/anthropic-sdk-go"
)

func main() {
	client := anthropic.NewClient() // reads ANTHROPIC_BASE_URL and ANTHROPIC_API_KEY
	message, err := client.Messages.New(context.Background(), anthropic.MessageNewParams{
		Model:     "` + Model + `",
		MaxTokens: 64,
		Messages:  []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("Say hello"))},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(message.Content[0].Text)
}
`, []string{"go mod init signalbox-hello", "go mod tidy", "go run ."}},
	}
}

// ProgramIn returns the program of a language.
func ProgramIn(lang string) (Program, bool) {
	for _, p := range Programs() {
		if p.Lang == lang {
			return p, true
		}
	}
	return Program{}, false
}

// Languages are the words for [ProgramIn], with commas between them.
func Languages() string {
	var words []string
	for _, p := range Programs() {
		words = append(words, p.Lang)
	}
	return strings.Join(words, ", ")
}

// Paste writes the program into its directory, from a POSIX shell.
func (p Program) Paste() string {
	return "mkdir -p " + Directory + " && cat > " + Directory + "/" + p.File + " <<'END'\n" + p.Text + "END"
}

// Commands fetch the SDK and run the program, from where it was pasted.
func (p Program) Commands() string {
	return "(cd " + Directory + " && " + strings.Join(p.Run, " && ") + ")"
}
