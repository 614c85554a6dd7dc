# Completions of tokenkeep for bash 4.4 or newer.
_tokenkeep() {
    local line=${COMP_LINE:0:COMP_POINT} words=() found=() last=-1 i piece trimmed
    # bash splits words at : and =. Pieces without a space between them are one word.
    for ((i = 0; i <= COMP_CWORD; i++)); do
        trimmed=${line#"${line%%[![:space:]]*}"}
        piece=${COMP_WORDS[i]}
        ((i == COMP_CWORD)) && piece=$trimmed
        if ((i == 0)) || [[ $trimmed != "$line" ]]; then
            words[++last]=
        fi
        words[last]+=$piece
        line=${trimmed#"$piece"}
    done
    local word=${words[last]} quote=
    case $word in
    [\"\']*) quote=${word:0:1} word=${word:1} ;;
    *) word=${word//\\/} ;;
    esac
    COMPREPLY=()
    # A quote in the middle of the word: nothing is offered.
    [[ $word == *[\"\']* ]] && return
    words[last]=$word
    # The part of the word that stays in the line before the candidate.
    local breaks=${COMP_WORDBREAKS//[!:=]/} before=
    [[ -z $quote && -n $breaks ]] && before=${word%"${word##*[$breaks]}"}
    mapfile -t found < <(TOKENKEEP_COMPLETE=bash _CLAP_IFS=$'\n' _CLAP_COMPLETE_INDEX=$last \
        tokenkeep -- "${words[@]}" 2>/dev/null)
    for piece in "${found[@]}"; do
        piece=${piece#"$before"}
        [[ -z $piece ]] && continue
        if [[ -z $quote ]]; then
            printf -v piece %q "$piece"
        elif [[ $piece == *[\'\"\\\`\$\!]* ]]; then
            # Between quotes it could end them, or be carried out.
            continue
        fi
        COMPREPLY+=("$piece")
    done
    if ((${#COMPREPLY[@]} == 1)) && [[ ${COMPREPLY[0]} == *[/=:] ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -o bashdefault -o default -o nosort -F _tokenkeep tokenkeep
