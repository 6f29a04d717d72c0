# bash completion for weir: source it, or put it into
# /etc/bash_completion.d/weir.
_weir() {
    local candidate rest IFS=$'\t' cur=${COMP_WORDS[COMP_CWORD]}
    [[ $cur == "=" ]] && cur=
    COMPREPLY=()
    while read -r candidate rest; do
        case $candidate in
        :files | :directories)
            local kind=-f
            [[ $candidate == :directories ]] && kind=-d
            IFS=$'\n'
            compopt -o filenames 2>/dev/null
            COMPREPLY=($(compgen "$kind" -- "$cur"))
            return
            ;;
        esac
        COMPREPLY+=("$candidate")
    done < <("${COMP_WORDS[0]}" complete-words -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _weir weir
