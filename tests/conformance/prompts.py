"""Prompts of many kinds and lengths, written for these tests."""

PROMPTS = (
    "The sea was calm when",
    "def fibonacci(n):\n    ",
    "Once upon a time, in a village at the foot of a mountain, there lived",
    "Water boils at",
    "List three fruits:\n1.",
    "import os\nimport sys\n\n\ndef main(argv):\n    if len(argv) < 2:\n        print(",
    "Dear Mrs. Alvarez,\n\nThank you for your letter of the third of March. We are glad to",
    "Q: How many legs does a spider have?\nA:",
    "The capital of France is Paris. The capital of Italy is Rome. The capital of Spain is",
    "SELECT name, COUNT(*) FROM orders WHERE",
    "To bake bread you need flour, water, salt and yeast. First, mix the flour and the water. Then",
    "class Stack:\n    def __init__(self):\n        self.items = []\n\n    def push(self, item):\n",
    "In the year 1969, two astronauts",
    "Translate to French: Good morning, how are you?",
    "A prime number is a whole number greater than one that",
    '{\n  "name": "Ada",\n  "age": 36,\n  "languages": [',
    "It rained for three days. On the fourth day the river rose above its banks, and the people of"
    " the lower town carried what they could up the hill: bedding, clocks, hens in baskets, and an"
    " old piano that nobody could play. From the church tower the bell",
    "Explain in one sentence why the sky is blue.",
    "for (int i = 0; i < n; i++) {\n    for (int j = i + 1; j < n; j++) {\n        if (",
    "My favourite season is autumn because",
    "Photosynthesis is the process by which green plants turn light into chemical energy. It takes"
    " place in the chloroplasts, where chlorophyll absorbs light. The light reactions split water"
    " and release oxygen; the energy is stored in molecules that later drive the dark reactions, in"
    " which carbon dioxide is bound and sugar is made. Because almost all food chains begin with"
    " it, photosynthesis is one of the most important reactions on Earth. Without it, the air"
    " would hold no oxygen, the soil no food, and the sea",
    "x^2 - 5x + 6 = 0. The solutions are x =",
    "The train to the north leaves at seven. If you miss it, the next one",
    "# Shopping list\n\n- milk\n- eggs\n-",
)
