"""`python make_transformers.py FOLDER`: a random Pegasus and a random BERT of a few thousand weights, in folders of their own.

Their tokenizers are trained on two sentences. Nothing is downloaded.
"""

import sys

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertTokenizerFast,
    PegasusConfig,
    PegasusForConditionalGeneration,
    PegasusTokenizerFast,
)

folder = sys.argv[1]
text = ["the quick brown fox jumps over the lazy dog", "a summary of a long text is a short text"] * 50
special = ["<pad>", "</s>", "<unk>", "<mask_1>", "<mask_2>"]
words = Tokenizer(models.Unigram())
words.pre_tokenizer, words.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
words.train_from_iterator(text, trainers.UnigramTrainer(vocab_size=120, special_tokens=special, unk_token="<unk>"))
words.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
tokenizer = PegasusTokenizerFast(tokenizer_object=words, offset=0, mask_token="<mask_2>", mask_token_sent="<mask_1>")
torch.manual_seed(0)
small = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
ends = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0, "forced_eos_token_id": 1}
config = PegasusConfig(
    vocab_size=len(tokenizer), encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=128, **small, **ends
)
PegasusForConditionalGeneration(config).save_pretrained(folder + "/pegasus")
tokenizer.save_pretrained(folder + "/pegasus")
pieces = Tokenizer(models.WordPiece(unk_token="[UNK]"))
pieces.normalizer = normalizers.BertNormalizer()
pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
pieces.train_from_iterator(text, trainers.WordPieceTrainer(vocab_size=120, special_tokens=special))
pieces.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
tokenizer = BertTokenizerFast(tokenizer_object=pieces)
config = BertConfig(
    vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, num_labels=2
)
BertForSequenceClassification(config).save_pretrained(folder + "/bert")
tokenizer.save_pretrained(folder + "/bert")
