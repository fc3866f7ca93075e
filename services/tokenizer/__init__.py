"""The tokenizer service: chat template, text to ids, and the tokenizer artefact for gateways."""
