"""Sentences with which encoders prove themselves."""

# Two ways to say one thing. Subjects differ from pair to pair, so that every other combination is unrelated.
PARAPHRASES = [
    (
        "How long can I keep cooked chicken in the fridge?",
        "For how many days is cooked chicken safe when refrigerated?",
    ),
    (
        "My flight was cancelled and I want my money back.",
        "I would like a refund because the airline cancelled my flight.",
    ),
    (
        "The patient has chest pain that spreads to the left arm.",
        "Pain in the chest radiating into the patient's left arm.",
    ),
    ("Can I take ibuprofen together with warfarin?", "Is it safe to combine warfarin and ibuprofen?"),
    ("The engine makes a rattling noise when it is cold.", "A cold engine rattles after starting the car."),
    ("Which countries share a border with Switzerland?", "What are the neighbouring countries of Switzerland?"),
    ("She learned to play the violin at the age of five.", "When she was five years old she took up the violin."),
    ("The court dismissed the appeal of the tenant.", "The tenant's appeal was rejected by the judges."),
    ("How do I reset the password of my email account?", "I forgot my email password and need to set a new one."),
    ("Bees are dying because of pesticides on the fields.", "Pesticides used in farming are killing honeybees."),
    ("The central bank raised interest rates again.", "Interest rates were increased once more by the central bank."),
    ("Water boils at a lower temperature on high mountains.", "At high altitude the boiling point of water is lower."),
    ("He broke his ankle while playing football.", "During a football match he fractured his ankle."),
    ("The printer does not connect to the wireless network.", "My printer cannot join the Wi-Fi."),
    (
        "A child with a rash and high fever for three days.",
        "Three days of high temperature and a skin rash in a child.",
    ),
    (
        "Plant tomatoes after the last frost in spring.",
        "Tomatoes should go into the ground once spring frosts are over.",
    ),
]

# From one token to more than the model can take, with the characters that users really send.
VARIED = [
    "ok",
    "Fever.",
    "42",
    "?!",
    "why",
    "Headache since yesterday",
    "paracetamol 500 mg 1-0-1",
    "What is the capital of France?",
    "naïve façade, coöperation, Ærø, São Paulo",
    "東京は日本の首都です",
    "Здоровье важнее всего",
    "user@example.com wrote: see attachment #12 (v2.0-rc1)",
    "SELECT name FROM experts WHERE state = 'serving';",
    "THE WHOLE TEXT IS IN CAPITALS",
    "   spaces    everywhere   ",
    "emoji 🙂 in the middle",
    "pneumonoultramicroscopicsilicovolcanoconiosis",
    "It was the kind of morning on which nothing could go wrong, and therefore everything did.",
    "A sixty-year-old woman with diabetes reports blurred vision, thirst and weight loss over the last two months.",
    "The contract ends on the last day of March unless one of the parties gives notice in writing three months before. "
    "Notice by email is enough if the other party confirms that it was received.",
    "Sort the list first, then walk over it once and keep the largest difference seen so far. The order of equal "
    "elements does not matter here, so any sorting algorithm will do; for short lists insertion sort is the fastest.",
    " ".join(f"Item {number} of the long list has a description that says little." for number in range(40)),
]
