package main

import (
	"context"
	"fmt"
	"os"

	"github.com/anthropics/anthropic-sdk-go"
)

// sdkAsk is a program of a user with the official SDK, which knows nothing but its environment.
func sdkAsk() {
	c := anthropic.NewClient()
	answer, err := c.Messages.New(context.Background(), anthropic.MessageNewParams{
		Model: "claude-fake", MaxTokens: 20, Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("tokens for trains"))},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("said:", answer.Content[0].Text)
}
