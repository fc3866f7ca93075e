import json

import pytest

from services.core.model import ModelDescription
from services.tokenizer.model_files import BadModelFiles, read_model_files


def change(path, **changes):
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**content, **changes}), encoding="utf-8")


def test_a_model_is_described_by_all_its_files(tiny_model_dir):
    assert read_model_files(tiny_model_dir).describe("tiny", None) == ModelDescription(
        name="tiny",
        max_model_len=128,
        eos_token_ids=(257, 258, 259),
        vocab_size=300,
        has_chat_template=True,
    )


def test_a_shorter_context_may_be_chosen_but_no_longer_one(tiny_model_dir):
    files = read_model_files(tiny_model_dir)
    assert files.describe("tiny", 64).max_model_len == 64
    assert files.describe("tiny", 256).max_model_len == 128


def test_a_model_without_context_length_needs_one(tiny_model_dir):
    (tiny_model_dir / "config.json").unlink()
    files = read_model_files(tiny_model_dir)
    assert files.describe("tiny", 64).max_model_len == 64
    with pytest.raises(BadModelFiles, match="TOKENMILL_MAX_MODEL_LEN"):
        files.describe("tiny", None)


def test_vocabulary_size_falls_back_to_the_tokenizer(tiny_model_dir):
    (tiny_model_dir / "config.json").unlink()
    assert read_model_files(tiny_model_dir).vocab_size == 258


def test_text_settings_of_a_multimodal_model_are_found(tiny_model_dir):
    change(tiny_model_dir / "config.json", text_config={"max_position_embeddings": 99})
    assert read_model_files(tiny_model_dir).max_model_len == 99


def test_a_template_file_wins_over_the_tokenizers_configuration(tiny_model_dir):
    (tiny_model_dir / "chat_template.jinja").write_text("newer", encoding="utf-8")
    assert read_model_files(tiny_model_dir).chat_template == "newer"


def test_the_default_of_several_templates_is_taken(tiny_model_dir):
    templates = [{"name": "tool", "template": "t"}, {"name": "default", "template": "d"}]
    change(tiny_model_dir / "tokenizer_config.json", chat_template=templates)
    assert read_model_files(tiny_model_dir).chat_template == "d"


def test_a_model_may_have_no_chat_template(tiny_model_dir):
    (tiny_model_dir / "tokenizer_config.json").unlink()
    assert not read_model_files(tiny_model_dir).describe("tiny", None).has_chat_template


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json"])
def test_a_damaged_file_is_named(name, tiny_model_dir):
    (tiny_model_dir / name).write_text("{", encoding="utf-8")
    with pytest.raises(BadModelFiles, match=name):
        read_model_files(tiny_model_dir)
