package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	consilium "consilium.dev/go"
)

// A question, and who should answer it.
type question struct {
	Text       string              `json:"text"`
	Attributes map[string][]string `json:"attributes"`
	Labels     map[string]string   `json:"labels"`
	// Empty: anybody.
	Expert string `json:"expert"`
	// "dispatched", "fallback" or "refused". Of these only "refused" is held against what comes back.
	Outcome string `json:"outcome"`
}

var builtIn = []question{
	{Text: "Can my patient take ibuprofen with warfarin?", Expert: "drug-interactions"},
	{Text: "Is it safe to combine sertraline and tramadol?", Expert: "drug-interactions"},
	{Text: "Who arranges home oxygen before discharge?", Expert: "care-coordination"},
	{Text: "Sudden worst headache of her life, stiff neck, vomiting", Expert: "diagnostic-reasoning"},
	{Text: "Which parts of the record must the surgeon have signed before the operation?", Expert: "clinical-documentation"},
	{Text: "How many hours of sleep does an adult need?", Expert: "general"},
	{Text: "What is the best recipe for sourdough bread?", Outcome: "refused"},
}

// readQuestions reads a file with a question on each line. Keys that are not known belong to other readers of such files.
func readQuestions(path string) ([]question, error) {
	if path == "" {
		return builtIn, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var questions []question
	lines := bufio.NewScanner(file)
	for number := 1; lines.Scan(); number++ {
		if len(lines.Bytes()) == 0 {
			continue
		}
		var q question
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", path, number, err)
		}
		if q.Text == "" {
			return nil, fmt.Errorf("%s, line %d: there is no text", path, number)
		}
		questions = append(questions, q)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(questions) == 0 {
		return nil, fmt.Errorf("%s has no questions", path)
	}
	return questions, nil
}

func (q question) options() []consilium.CallOption {
	var options []consilium.CallOption
	for name, values := range q.Attributes {
		options = append(options, consilium.Attribute(name, values...))
	}
	for name, value := range q.Labels {
		options = append(options, consilium.Label(name, value))
	}
	return options
}
